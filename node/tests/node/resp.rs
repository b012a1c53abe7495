//! The RESP door: values come back as they were set, from wherever they are, or they are a miss.

mod client;
mod doors;

use weft_node::{Config, Node, RespConfig};
use weft_service::telemetry::Telemetry;
use weft_types::ByteSize;

use self::client::{Client, Reply, ok, request, value};
use crate::fleet::Fleet;
use crate::world::{self, DEADLINE, Host, metric};

/// Of a part.
const PART: usize = 4096;

/// Longest value: 255 parts.
const LONGEST: usize = 255 * PART;

/// A door with 256 heads, and 512 parts of 4 KiB.
fn door() -> RespConfig {
    let mut door = RespConfig::new("127.0.0.1:0".parse().unwrap());
    (door.memory, door.part) = (ByteSize::from_mib(4), ByteSize::from_bytes(PART as u64));
    door
}

async fn node(host: &Host, telemetry: &Telemetry, change: impl FnOnce(&mut Config)) -> Node {
    let config = host.config(|config| {
        config.resp = Some(door());
        change(config);
    });
    Node::bind(config, telemetry).await.unwrap()
}

#[tokio::test]
async fn values_of_every_length_come_back_as_they_were_set() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry, |_| {}).await;
    let mut client = Client::connect(node.resp_addr().unwrap()).await;
    let lengths = [0, 1, 8176, 8177, 2 * PART, 2 * PART + 1, 3 * PART, 100_000, LONGEST];
    for (at, length) in lengths.into_iter().enumerate() {
        let (key, value) = (format!("key {at}\r\n\0"), value(at as u64, length));
        assert_eq!(client.get(&key).await, Reply::Null);
        assert_eq!(client.set(&key, &value).await, ok());
        assert!(client.get(&key).await == Reply::Bulk(value), "of {length} bytes");
        assert_eq!(client.ask(&[b"STRLEN", key.as_bytes()]).await, Reply::Integer(length as u64));
    }
    let refused = client.set("longer", &vec![0; LONGEST + 1]).await;
    assert!(matches!(&refused, Reply::Error(why) if why.contains("at most 1044480")), "{refused:?}");
    assert_eq!(client.get("longer").await, Reply::Null, "and the connection goes on");
    assert_eq!(metric(&telemetry, "weft_node_resp_refused_total", "length"), 1.0);

    // All at once: replies come in the order of the requests.
    let mut sent = Vec::new();
    for at in 0..50_u64 {
        sent.extend(request(&[b"SET", format!("p{at}").as_bytes(), &value(at, 5000)]));
        sent.extend(request(&[b"GET", format!("p{}", at / 2).as_bytes()]));
    }
    client.say(&sent).await;
    for at in 0..50_u64 {
        assert_eq!(client.reply().await, ok());
        assert!(client.reply().await == Reply::Bulk(value(at / 2, 5000)), "value {at}");
    }
    let several = client.ask(&[b"MGET", b"p1", b"nothing", b"p2"]).await;
    assert!(several == Reply::Array(vec![Reply::Bulk(value(1, 5000)), Reply::Null, Reply::Bulk(value(2, 5000))]));
    assert_eq!(client.ask(&[b"EXISTS", b"p1", b"nothing", b"p2"]).await, Reply::Integer(2));
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_key_names_what_it_was_set_to_last_and_nothing_once_it_is_deleted() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry, |_| {}).await;
    let mut client = Client::connect(node.resp_addr().unwrap()).await;
    for (seed, length) in [(1, 10_000), (2, 10_000), (3, 12), (4, 12), (4, 12), (5, 30_000)] {
        assert_eq!(client.set("key", &value(seed, length)).await, ok());
        assert!(client.get("key").await == Reply::Bulk(value(seed, length)));
    }
    assert_eq!(client.ask(&[b"DEL", b"key", b"other"]).await, Reply::Integer(1));
    assert_eq!(client.get("key").await, Reply::Null);
    assert_eq!(client.set("key", &value(5, 30_000)).await, ok());
    assert!(client.get("key").await == Reply::Bulk(value(5, 30_000)));
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn what_does_not_fit_goes_whole_and_what_a_client_was_told_of_stays() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry, |_| {}).await;
    let mut client = Client::connect(node.resp_addr().unwrap()).await;
    // 32 parts each: 16 of them fill the memory.
    let (value_of, key_of) = (|at: u64| value(at, 32 * PART), |at: u64| format!("key {at}"));
    for at in 0..4 {
        assert_eq!(client.set(&key_of(at), &value_of(at)).await, ok());
    }
    assert!(client.exists(&key_of(0)).await);
    for at in 4..60 {
        assert_eq!(client.set(&key_of(at), &value_of(at)).await, ok());
    }
    assert!(client.get(&key_of(0)).await == Reply::Bulk(value_of(0)), "it was said to exist");
    let mut found = 0;
    for at in 1..60 {
        match client.get(&key_of(at)).await {
            Reply::Null => {}
            whole => {
                assert!(whole == Reply::Bulk(value_of(at)));
                found += 1;
            }
        }
    }
    assert!((8..16).contains(&found), "{found} are here");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_value_is_got_at_the_door_of_another_node() {
    let fleet = Fleet::new();
    let start = async |number| {
        let mut config = fleet.config(number);
        config.resp = Some(door());
        Node::bind(config, &Telemetry::for_tests()).await.unwrap()
    };
    let nodes = [start(0).await, start(1).await];
    let mut clients =
        [Client::connect(nodes[0].resp_addr().unwrap()).await, Client::connect(nodes[1].resp_addr().unwrap()).await];
    let (long, short) = (value(1, 50 * PART + 17), value(2, 28));
    assert_eq!(clients[0].set("long", &long).await, ok());
    assert_eq!(clients[0].set("short", &short).await, ok());
    // Both are listed a moment later.
    world::eventually(async || clients[1].exists("short").await.then_some(())).await;
    world::eventually(async || clients[1].exists("long").await.then_some(())).await;
    assert!(clients[1].get("long").await == Reply::Bulk(long));
    assert!(clients[1].get("short").await == Reply::Bulk(short));
    assert_eq!(clients[1].get("neither").await, Reply::Null);
    for node in nodes {
        node.drain(DEADLINE).await;
    }
}

#[tokio::test]
async fn values_that_were_used_are_there_after_a_restart() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let with_disk = |config: &mut Config| {
        let (path, size) = (host.path().join("disk"), ByteSize::from_mib(32));
        config.disk = Some(weft_node::DiskConfig { path, size, admission: weft_node::DiskAdmission::SeenTwice });
    };
    let first = node(&host, &telemetry, with_disk).await;
    let mut client = Client::connect(first.resp_addr().unwrap()).await;
    let whole = value(1, 20 * PART);
    assert_eq!(client.set("key", &whole).await, ok());
    assert!(client.get("key").await == Reply::Bulk(whole.clone()));
    // A head and 20 parts.
    world::eventually(async || (metric(&telemetry, "weft_node_demotions_total", "stored") == 21.0).then_some(())).await;
    drop(client);
    first.drain(DEADLINE).await;

    let telemetry = Telemetry::for_tests();
    let second = node(&host, &telemetry, with_disk).await;
    world::eventually(async || (metric(&telemetry, "weft_node_disk_phase", "open") == 1.0).then_some(())).await;
    let mut client = Client::connect(second.resp_addr().unwrap()).await;
    assert!(client.get("key").await == Reply::Bulk(whole));
    assert_eq!(client.set("key", b"other").await, ok());
    assert_eq!(client.get("key").await, Reply::Bulk(b"other".to_vec()), "not what is on disk");
    second.drain(DEADLINE).await;
}
