//! One connection: bytes in, commands one after the other, replies out.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use weft_resp::{Decoder, Item, reply};

use super::Door;
use super::commands::{Goes, Session};
use super::incoming::{Incoming, Refusal};
use super::users::Client;
use super::values::Value;

/// Bytes read at once: 256 KiB. A value of megabytes takes a system call for each.
const READ_BYTES: usize = 256 << 10;

/// Replies are collected up to 64 KiB while more commands are here already.
const WRITE_BYTES: usize = 64 << 10;

/// Pieces of a value up to 16 KiB are copied behind what is collected; longer ones are written from where they lie.
const COPIED_MAX: usize = 16 << 10;

/// Longest wait in the middle of a command, for its next bytes, or for a client to take some of its reply. Meanwhile a value may
/// be pinned.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Longest wait for a client that has not said who it is.
const STRANGER_WITHIN: Duration = Duration::from_secs(10);

/// A connection and where it stands.
pub(super) struct Connection<'a, S> {
    door: &'a Door,
    decoder: Decoder,
    input: BytesMut,
    session: Session,
    setting: Option<Setting>,
    wire: Wire<S>,
}

/// A `SET` on its way.
struct Setting {
    key: Bytes,
    bytes: u64,
    /// `None`: of a client that may not.
    taken: Option<(Client, Incoming)>,
}

/// The writing side.
pub(super) struct Wire<S> {
    stream: S,
    /// Replies that have not been written.
    pub(super) out: BytesMut,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    /// At its beginning.
    pub(super) fn new(door: &'a Door, stream: S) -> Self {
        let session = Session::new(door.users.anybody().cloned());
        let wire = Wire { stream, out: BytesMut::new() };
        Self { door, decoder: Decoder::new(), input: BytesMut::new(), session, setting: None, wire }
    }

    /// Answers until the client has gone, or has to go.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(Some(item)) => {
                    if self.take(item).await? == Goes::Away {
                        return self.wire.flush().await;
                    }
                    if self.wire.out.len() >= WRITE_BYTES {
                        self.wire.flush().await?;
                    }
                }
                Ok(None) => {
                    self.wire.flush().await?;
                    if !self.read().await? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.door.metrics.refused.protocol.inc();
                    reply::error(&mut self.wire.out, &format!("ERR Protocol error: {error}"));
                    return self.wire.flush().await;
                }
            }
        }
    }

    /// `false`: nothing more comes.
    async fn read(&mut self) -> io::Result<bool> {
        let within = match (self.decoder.is_between_commands() && self.input.is_empty(), &self.session.client) {
            (false, _) => Some(STUCK_AFTER),
            (true, None) => Some(STRANGER_WITHIN),
            (true, Some(_)) => None,
        };
        self.input.reserve(READ_BYTES);
        let read = self.wire.stream.read_buf(&mut self.input);
        let bounded = async {
            match within {
                None => read.await,
                Some(within) => timeout(within, read).await.unwrap_or_else(|_| {
                    self.door.metrics.refused.stuck.inc();
                    Err(io::ErrorKind::TimedOut.into())
                }),
            }
        };
        tokio::select! {
            read = bounded => Ok(read? > 0),
            () = self.door.stop.cancelled() => Ok(false),
        }
    }

    async fn take(&mut self, item: Item) -> io::Result<Goes> {
        match item {
            Item::Command(words) => return self.session.command(self.door, &words, &mut self.wire).await,
            Item::Set { key, bytes } => {
                let values = &self.door.values;
                let taken = self.session.client.clone().map(|client| {
                    let incoming = Incoming::new(values, client.names.head(&key), bytes);
                    (client, incoming)
                });
                self.setting = Some(Setting { key, bytes, taken });
            }
            Item::Chunk(chunk) => {
                if let Some((client, incoming)) = self.setting.as_mut().and_then(|setting| setting.taken.as_mut()) {
                    incoming.push(&self.door.values, &client.names, &chunk);
                }
            }
            Item::SetEnd { options } => {
                if let Some(setting) = self.setting.take() {
                    self.set(setting, &options);
                }
            }
        }
        Ok(Goes::On)
    }

    fn set(&mut self, Setting { key, bytes, taken }: Setting, options: &[Bytes]) {
        let (out, metrics) = (&mut self.wire.out, &self.door.metrics);
        let Some((client, incoming)) = taken else {
            metrics.refused.auth.inc();
            return reply::error(out, "NOAUTH Authentication required.");
        };
        if !options.is_empty() {
            metrics.refused.command.inc();
            return reply::error(out, "ERR SET takes no options here: values go when their memory is needed");
        }
        match incoming.finish(&self.door.values, &client.names) {
            Ok(()) => {
                self.door.widths.learn(&client.tenant, &key, bytes);
                metrics.set.inc();
                metrics.set_bytes.inc_by(bytes);
                reply::simple(out, "OK");
            }
            Err(Refusal::TooLong) => {
                metrics.refused.length.inc();
                let max = self.door.values.value_bytes_max();
                reply::error(
                    out,
                    &format!("ERR a value of {bytes} bytes, at most {max}: raise resp.part or resp.memory"),
                );
            }
            Err(Refusal::Full) => {
                metrics.refused.space.inc();
                reply::error(out, "OOM every slot is in use: raise resp.memory");
            }
            Err(Refusal::Busy) => {
                metrics.refused.busy.inc();
                reply::error(out, "TRYAGAIN the key is being written");
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// A whole value.
    pub(super) async fn value(&mut self, value: Value) -> io::Result<()> {
        reply::bulk_header(&mut self.out, value.bytes);
        for piece in value.pieces {
            if piece.len() <= COPIED_MAX {
                self.out.extend_from_slice(&piece);
            } else {
                let before = self.out.split().freeze();
                self.write(before.chain(piece)).await?;
            }
        }
        reply::bulk_end(&mut self.out);
        Ok(())
    }

    /// Writes what is collected.
    async fn flush(&mut self) -> io::Result<()> {
        let out = self.out.split().freeze();
        self.write(out).await?;
        timeout(STUCK_AFTER, self.stream.flush()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let written = timeout(STUCK_AFTER, self.stream.write_buf(&mut bytes)).await;
            match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                _ => continue,
            }
        }
        Ok(())
    }
}
