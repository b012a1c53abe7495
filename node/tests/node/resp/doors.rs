//! Who is let in, what clients are told of a miss, and what hostile ones get.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use weft_node::{BindError, Node, RespFault, RespTls, RespUser};
use weft_service::telemetry::Telemetry;

use super::client::{Client, Reply, ok, request, value};
use super::node;
use crate::world::{DEADLINE, Host, metric};

/// Adds a user whose password is its tenant's name twice.
fn user(host: &Host, tenant: &str) -> RespUser {
    let password_file = host.path().join(format!("{tenant}.password"));
    std::fs::write(&password_file, format!("{tenant}{tenant}\n")).unwrap();
    RespUser { tenant: tenant.parse().unwrap(), password_file }
}

#[tokio::test]
async fn tenants_are_told_apart_by_their_passwords() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let users = vec![user(&host, "a"), user(&host, "b")];
    let node = node(&host, &telemetry, |config| config.resp.as_mut().unwrap().users = users).await;
    let addr = node.resp_addr().unwrap();
    let (mut a, mut b, mut stranger) =
        (Client::connect(addr).await, Client::connect(addr).await, Client::connect(addr).await);
    assert_eq!(a.ask(&[b"AUTH", b"aa"]).await, ok());
    assert!(
        matches!(b.ask(&[b"HELLO", b"3", b"AUTH", b"b", b"bb", b"SETNAME", b"x"]).await, Reply::Array(pairs) if pairs.len() == 14)
    );
    assert_eq!(a.set("key", b"of a").await, ok());
    assert_eq!(b.get("key").await, Reply::Null);
    assert_eq!(b.set("key", b"of b").await, ok());
    assert_eq!((a.get("key").await, b.get("key").await), (Reply::Bulk(b"of a".into()), Reply::Bulk(b"of b".into())));

    let refused =
        |reply: Reply, code: &str| assert!(matches!(&reply, Reply::Error(why) if why.starts_with(code)), "{reply:?}");
    refused(stranger.get("key").await, "NOAUTH");
    refused(stranger.set("key", &value(1, 100_000)).await, "NOAUTH");
    refused(stranger.ask(&[b"HELLO", b"3"]).await, "NOAUTH");
    refused(stranger.ask(&[b"AUTH", b"a", b"bb"]).await, "WRONGPASS");
    refused(stranger.ask(&[b"AUTH", b""]).await, "WRONGPASS");
    refused(stranger.ask(&[b"HELLO", b"2", b"AUTH", b"a", b"a"]).await, "WRONGPASS");
    assert_eq!(stranger.line().await, None, "three attempts are enough");
    assert_eq!(metric(&telemetry, "weft_node_resp_refused_total", "auth"), 6.0);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_miss_is_as_wide_as_what_the_compiled_client_of_lmcache_reads() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry, |_| {}).await;
    let addr = node.resp_addr().unwrap();
    let (mut compiled, mut other) = (Client::connect(addr).await, Client::connect(addr).await);
    assert!(matches!(other.ask(&[b"HELLO", b"3"]).await, Reply::Array(_)));
    let key = |hash: char| format!("tiny@00010001@0@{}", hash.to_string().repeat(64));
    assert_eq!(compiled.get(&key('a')).await, Reply::Null, "nobody knows how long it would be");
    assert_eq!(compiled.set(&key('b'), &value(1, 8192)).await, ok());
    compiled.say(&request(&[b"GET", key('a').as_bytes()])).await;
    assert_eq!(compiled.line().await.unwrap().len() + 2, "$8192\r\n".len());
    assert!(compiled.get(&key('b')).await == Reply::Bulk(value(1, 8192)));
    assert_eq!(compiled.get("another key").await, Reply::Null);
    assert_eq!(other.get(&key('a')).await, Reply::Null);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn hostile_clients_get_an_error_and_others_do_not_notice() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry, |_| {}).await;
    let addr = node.resp_addr().unwrap();
    let mut honest = Client::connect(addr).await;
    let hostile: [&[u8]; 7] = [
        b"*99999999\r\n",
        b"*2\r\n$3\r\nGET\r\n$9999999999\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$99999999999999\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\nGET\r\n",
        &[b'x'; 5000],
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvvvvv",
    ];
    for bytes in hostile {
        let mut client = Client::connect(addr).await;
        client.say(bytes).await;
        let reply = client.reply().await;
        assert!(matches!(&reply, Reply::Error(why) if why.contains("Protocol error")), "{reply:?}");
        assert_eq!(client.line().await, None);
        assert_eq!(honest.ask(&[b"PING"]).await, Reply::Simple("PONG".into()));
    }
    assert_eq!(metric(&telemetry, "weft_node_resp_refused_total", "protocol"), 7.0);
    // In the middle of a value, or without reading what they asked for: gone.
    let mut client = Client::connect(addr).await;
    client.say(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100000\r\nabc").await;
    drop(client);
    let mut client = Client::connect(addr).await;
    assert_eq!(honest.set("long", &value(1, 1_000_000)).await, ok());
    client.say(&request(&[b"GET", b"long"]).repeat(20)).await;
    drop(client);
    assert_eq!(honest.get("half").await, Reply::Null);
    for (words, why) in [
        (&[&b"KEYS"[..], b"*"][..], "unknown command 'KEYS'"),
        (&[b"GET"], "wrong number of arguments for 'get'"),
        (&[b"SET", b"k"], "wrong number of arguments for 'set'"),
        (&[b"SET", b"k", b"v", b"EX", b"10"], "no options"),
        (&[b"SELECT", b"1"], "out of range"),
        (&[b"HELLO", b"4"], "NOPROTO"),
        (&[b"AUTH", b"x"], "without any password"),
    ] {
        let reply = honest.ask(words).await;
        assert!(matches!(&reply, Reply::Error(said) if said.contains(why)), "{reply:?}");
    }
    let seats: Vec<_> = futures_util::future::join_all((0..255).map(|_| Client::connect(addr))).await;
    crate::world::eventually(async || {
        // Those that were dropped above give their seats back when the door has noticed.
        let full = metric(&telemetry, "weft_node_resp_connections", "") == 256.0;
        full.then_some(())
    })
    .await;
    assert_eq!(Client::connect(addr).await.line().await, None, "no seat is left");
    assert_eq!(honest.ask(&[b"PING"]).await, Reply::Simple("PONG".into()));
    drop(seats);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_door_that_others_reach_wants_tls_and_passwords() {
    let host = Host::new();
    let refused = |change: &dyn Fn(&mut weft_node::RespConfig)| {
        let mut door = super::door();
        door.listen = "0.0.0.0:0".parse().unwrap();
        change(&mut door);
        let config = host.config(|config| config.resp = Some(door));
        async { Node::bind(config, &Telemetry::for_tests()).await.unwrap_err() }
    };
    assert!(matches!(refused(&|_| {}).await, BindError::Resp(RespFault::Exposed(_))));
    let users = vec![user(&host, "a")];
    let error = refused(&|door| door.users.clone_from(&users)).await;
    assert!(matches!(error, BindError::Resp(RespFault::Exposed(_))));

    let of_server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (host.path().join("door.crt"), host.path().join("door.key"));
    std::fs::write(&cert, of_server.cert.pem()).unwrap();
    std::fs::write(&key, of_server.signing_key.serialize_pem()).unwrap();
    let tls = Some(RespTls { cert, key });
    let error = refused(&|door| door.tls.clone_from(&tls)).await;
    assert!(matches!(error, BindError::Resp(RespFault::Exposed(_))));

    let telemetry = Telemetry::for_tests();
    let open = |config: &mut weft_node::Config| {
        let door = config.resp.as_mut().unwrap();
        (door.tls, door.users) = (tls.clone(), users.clone());
    };
    let node = node(&host, &telemetry, open).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(of_server.cert.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(node.resp_addr().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = Client::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap());
    assert_eq!(client.ask(&[b"AUTH", b"aa"]).await, ok());
    assert_eq!(client.set("key", &value(7, 100_000)).await, ok());
    assert!(client.get("key").await == Reply::Bulk(value(7, 100_000)));
    node.drain(DEADLINE).await;
}
