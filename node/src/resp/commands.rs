//! What clients may ask, and what they are answered.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use weft_resp::{Protocol, reply};

use super::Door;
use super::connection::Wire;
use super::users::Client;

/// Wrong passwords on one connection.
const ATTEMPTS_MAX: u32 = 3;

/// As far as an unknown command's name is repeated.
const NAME_SHOWN_MAX: usize = 64;

/// Version that clients are told: they take it for what the server can do.
const SHOWN_VERSION: &str = "7.2.0";

/// What clients read of `INFO`: that this is a primary, and no cluster.
const INFO: &str = "# Server\r\nredis_version:7.2.0\r\nredis_mode:standalone\r\nserver_name:weft\r\n\
    # Replication\r\nrole:master\r\nconnected_slaves:0\r\n# Cluster\r\ncluster_enabled:0\r\n";

/// Whether the connection goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Goes {
    /// It does.
    On,
    /// Once what is collected is written, it is closed.
    Away,
}

/// What a client has said of itself.
#[derive(Debug)]
pub(super) struct Session {
    /// `None` until it has said its password.
    pub(super) client: Option<Client>,
    protocol: Protocol,
    /// It said `HELLO`: LMCache's compiled client does not.
    greeted: bool,
    attempts: u32,
}

impl Session {
    /// Of a client that has said nothing.
    pub(super) fn new(client: Option<Client>) -> Self {
        Self { client, protocol: Protocol::default(), greeted: false, attempts: 0 }
    }

    /// Answers one command.
    pub(super) async fn command<S: AsyncWrite + Unpin>(
        &mut self,
        door: &Door,
        words: &[Bytes],
        wire: &mut Wire<S>,
    ) -> io::Result<Goes> {
        let Some((name, arguments)) = words.split_first() else { return Ok(Goes::On) };
        let name = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_MAX)]).to_ascii_uppercase();
        let out = &mut wire.out;
        match (name.as_str(), arguments) {
            ("AUTH", [password]) => return Ok(self.authenticate(door, None, password, out)),
            ("AUTH", [user, password]) => return Ok(self.authenticate(door, Some(user), password, out)),
            ("HELLO", _) => return Ok(self.hello(door, arguments, out)),
            ("QUIT", _) => {
                reply::simple(out, "OK");
                return Ok(Goes::Away);
            }
            _ => {}
        }
        let Some(client) = self.client.clone() else {
            door.metrics.refused.auth.inc();
            reply::error(out, "NOAUTH Authentication required.");
            return Ok(Goes::On);
        };
        match (name.as_str(), arguments) {
            ("GET", [key]) => self.get(door, &client, key, wire).await?,
            ("MGET", [_, ..]) => {
                reply::array(out, arguments.len());
                for key in arguments {
                    match find(door, &client, key).await {
                        Some(value) => wire.value(value).await?,
                        None => self.protocol.null(&mut wire.out),
                    }
                }
            }
            ("EXISTS", [_, ..]) => {
                let mut here = 0;
                for key in arguments {
                    if let Some(value) = find(door, &client, key).await {
                        here += 1;
                        door.kept.keep(value);
                    }
                }
                reply::integer(out, here);
            }
            ("STRLEN", [key]) => {
                let length = door.values.length(&client.names.head(key)).await;
                reply::integer(out, length.unwrap_or(0));
            }
            ("DEL" | "UNLINK", [_, ..]) => {
                let gone = arguments.iter().filter(|key| door.values.remove(&client.names.head(key))).count();
                reply::integer(out, gone as u64);
            }
            _ => self.small_talk(door, &name, arguments, out),
        }
        Ok(Goes::On)
    }

    async fn get<S: AsyncWrite + Unpin>(
        &self,
        door: &Door,
        client: &Client,
        key: &Bytes,
        wire: &mut Wire<S>,
    ) -> io::Result<()> {
        if let Some(value) = find(door, client, key).await {
            door.metrics.got_bytes.inc_by(value.bytes);
            return wire.value(value).await;
        }
        match door.widths.of(&client.tenant, key).filter(|_| !self.greeted) {
            Some(bytes) => reply::miss_as_wide_as(&mut wire.out, bytes),
            None => self.protocol.null(&mut wire.out),
        }
        Ok(())
    }

    /// What clients say before they come to the point.
    fn small_talk(&self, door: &Door, name: &str, arguments: &[Bytes], out: &mut BytesMut) {
        let first = arguments.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        match (name, arguments) {
            ("PING", []) => reply::simple(out, "PONG"),
            ("PING" | "ECHO", [message]) => reply::bulk(out, message),
            ("SELECT", [number]) if number == "0" => reply::simple(out, "OK"),
            ("SELECT", [_]) => reply::error(out, "ERR DB index is out of range"),
            ("CLIENT", [_, ..]) => match &first[..] {
                b"ID" => reply::integer(out, 1),
                b"GETNAME" => self.protocol.null(out),
                _ => reply::simple(out, "OK"),
            },
            ("INFO", _) => reply::bulk(out, INFO.as_bytes()),
            ("READONLY" | "READWRITE", []) => reply::simple(out, "OK"),
            // redis-cli asks for help texts, and goes without.
            ("COMMAND", _) => reply::array(out, 0),
            ("CONFIG", [_, ..]) if first == b"GET" => self.protocol.map(out, 0),
            (
                "GET" | "MGET" | "SET" | "EXISTS" | "STRLEN" | "DEL" | "UNLINK" | "AUTH" | "PING" | "ECHO" | "SELECT",
                _,
            ) => {
                door.metrics.refused.command.inc();
                let name = name.to_ascii_lowercase();
                reply::error(out, &format!("ERR wrong number of arguments for '{name}' command"));
            }
            _ => {
                door.metrics.refused.command.inc();
                reply::error(out, &format!("ERR unknown command '{name}'"));
            }
        }
    }

    fn hello(&mut self, door: &Door, arguments: &[Bytes], out: &mut BytesMut) -> Goes {
        let (version, mut rest) = match arguments.split_first() {
            None => (None, arguments),
            Some((version, rest)) => (Some(&version[..]), rest),
        };
        let protocol = match version {
            None => self.protocol,
            Some(b"2") => Protocol::V2,
            Some(b"3") => Protocol::V3,
            Some(_) => {
                reply::error(out, "NOPROTO unsupported protocol version");
                return Goes::On;
            }
        };
        while let Some((word, more)) = rest.split_first() {
            rest = match (&word.to_ascii_uppercase()[..], more) {
                (b"AUTH", [user, password, more @ ..]) => {
                    if !self.admit(door, Some(user), password) {
                        return self.turn_away(door, out);
                    }
                    more
                }
                (b"SETNAME", [_, more @ ..]) => more,
                _ => {
                    door.metrics.refused.command.inc();
                    reply::error(out, "ERR Syntax error in HELLO");
                    return Goes::On;
                }
            };
        }
        if self.client.is_none() {
            door.metrics.refused.auth.inc();
            reply::error(out, "NOAUTH HELLO must come with AUTH, or after it");
            return Goes::On;
        }
        (self.protocol, self.greeted) = (protocol, true);
        self.protocol.map(out, 7);
        for (key, value) in
            [("server", "redis"), ("version", SHOWN_VERSION), ("mode", "standalone"), ("role", "master")]
        {
            reply::bulk(out, key.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        for (key, number) in [("proto", self.protocol.number()), ("id", 1)] {
            reply::bulk(out, key.as_bytes());
            reply::integer(out, number);
        }
        reply::bulk(out, b"modules");
        reply::array(out, 0);
        Goes::On
    }

    fn authenticate(&mut self, door: &Door, user: Option<&Bytes>, password: &Bytes, out: &mut BytesMut) -> Goes {
        if door.users.anybody().is_some() {
            reply::error(out, "ERR AUTH called without any password configured: leave it out, or set resp.users");
            return Goes::On;
        }
        if !self.admit(door, user, password) {
            return self.turn_away(door, out);
        }
        reply::simple(out, "OK");
        Goes::On
    }

    fn admit(&mut self, door: &Door, user: Option<&Bytes>, password: &Bytes) -> bool {
        // Without passwords, whatever is said is right.
        let known = door.users.anybody().or_else(|| door.users.find(user.map(|user| &user[..]), password));
        self.client = known.cloned();
        self.client.is_some()
    }

    fn turn_away(&mut self, door: &Door, out: &mut BytesMut) -> Goes {
        door.metrics.refused.auth.inc();
        self.attempts += 1;
        reply::error(out, "WRONGPASS invalid username-password pair or user is disabled.");
        if self.attempts < ATTEMPTS_MAX { Goes::On } else { Goes::Away }
    }
}

/// Brings a client's value here, and counts.
async fn find(door: &Door, client: &Client, key: &Bytes) -> Option<super::values::Value> {
    let found = door.values.get(&client.names.head(key)).await;
    match &found {
        Some(value) => {
            door.metrics.found.inc();
            door.widths.learn(&client.tenant, key, value.bytes);
        }
        None => door.metrics.missed.inc(),
    }
    found
}
