//! Nodes of one cluster: they find each other's blocks, and the directory believes what is true, whatever was lost.

use std::net::UdpSocket;
use std::time::Duration;

use tempfile::TempDir;
use weft_metadata::Metadata;
use weft_node::{Config, Node};
use weft_node_client::{AttachError, LoadSource, NodeClient};
use weft_service::certs::Ca;
use weft_service::config::IdentityFiles;
use weft_service::telemetry::Telemetry;
use weft_types::{ByteSize, HolderKey, Incarnation, MemberId, NodeId};

use crate::metadata::{Group, device, host};
use crate::world::{self, DEADLINE, Host, attach_config, bytes_of, metric, prefix, store};

/// A cluster: its certificates, its metadata, and two hosts.
pub(crate) struct Fleet {
    ca: Ca,
    keys: TempDir,
    pub(crate) group: Group,
    hosts: [Host; 2],
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let ca = Ca::create("test").unwrap();
        let group = Group::start(&ca);
        Self { ca, keys: tempfile::tempdir().unwrap(), group, hosts: [Host::new(), Host::new()] }
    }

    pub(crate) fn config(&self, number: usize) -> Config {
        let name = format!("n{number}");
        let identity = self.identity("node", &name);
        self.hosts[number].config(|config| {
            config.name = name.parse().unwrap();
            config.metadata = vec![self.group.addr];
            config.identity = Some(identity);
            config.fetch_deadline = DEADLINE;
            config.lookup_deadline = DEADLINE;
        })
    }

    pub(crate) fn path(&self, number: usize) -> &std::path::Path {
        self.hosts[number].path()
    }

    fn identity(&self, role: &str, name: &str) -> IdentityFiles {
        let issued = self.ca.issue(role, name, 1).unwrap();
        let write = |file: &str, text: &str| {
            let path = self.keys.path().join(format!("{role}-{name}.{file}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        IdentityFiles {
            cert: write("cert", &issued.cert),
            key: write("key", &issued.key),
            ca: write("ca", self.ca.cert_pem()),
        }
    }

    /// A real metadata group, of one member.
    async fn real_group(&self) -> Metadata {
        // Its address is part of its configuration: a port that was free a moment ago.
        let addr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (member, data) = (MemberId::new(1), self.keys.path().join("metadata"));
        let mut config =
            weft_metadata::Config::new(member, [(member, addr)].into(), data, self.identity("metadata", "1"));
        (config.fabric, config.admin) = (addr, "127.0.0.1:0".parse().unwrap());
        Metadata::bind(config, &Telemetry::for_tests()).await.unwrap()
    }

    async fn node(&self, number: usize) -> Node {
        Node::bind(self.config(number), &Telemetry::for_tests()).await.unwrap()
    }

    pub(crate) async fn engine(&self, number: usize, name: &str) -> NodeClient {
        self.hosts[number].engine(name).await
    }

    /// Waits until the directory believes exactly this of the blocks.
    pub(crate) async fn believes(
        &self,
        holder: &HolderKey,
        blocks: &[weft_types::BlockHash],
        held: impl Fn(usize) -> bool,
    ) {
        let expected: Vec<_> = (0..blocks.len()).map(held).collect();
        world::eventually(async || (self.group.holds(holder, blocks) == expected).then_some(())).await;
    }
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

#[tokio::test]
async fn what_is_stored_on_one_node_is_loaded_through_the_other() {
    let fleet = Fleet::new();
    let nodes = [fleet.node(0).await, fleet.node(1).await];
    let (writer, reader) = (fleet.engine(0, "e0").await, fleet.engine(1, "e1").await);
    let blocks = prefix(0..100);
    assert_eq!(store(&writer, &blocks).await.stored, 100);
    fleet.believes(&host("n0"), &blocks, |_| true).await;

    let loaded = reader.load(&prefix(0..120), DEADLINE).await;
    assert_eq!(loaded.len(), 100);
    for (block, expected) in loaded.iter().zip(&blocks) {
        assert_eq!((block.source(), block.bytes()), (LoadSource::Peer, &bytes_of(expected)[..]));
    }
    drop(loaded);
    fleet.believes(&host("n1"), &blocks, |_| true).await;
    let again = reader.load(&blocks, DEADLINE).await;
    assert!(again.iter().all(|block| block.source() == LoadSource::Host), "now it is here too");
    for node in nodes {
        node.drain(DEADLINE).await;
    }
    let roster = fleet.group.roster();
    assert!(roster.nodes.is_empty(), "a node that drains leaves the roster");
    assert_eq!(roster.endpoints.len(), 2, "its engines do not: they serve without it");
    assert!(roster.holders.is_empty(), "nobody vouches for what they hold any more");
}

#[tokio::test]
async fn with_a_real_metadata_group_too() {
    let fleet = Fleet::new();
    let metadata = fleet.real_group().await;
    let bind = async |number| {
        let mut config = fleet.config(number);
        config.metadata = vec![metadata.addr()];
        Node::bind(config, &Telemetry::for_tests()).await.unwrap()
    };
    let nodes = [bind(0).await, bind(1).await];
    let (writer, reader) = (fleet.engine(0, "e0").await, fleet.engine(1, "e1").await);
    let blocks = prefix(0..100);
    assert_eq!(store(&writer, &blocks).await.stored, 100);
    let loaded = world::eventually(async || {
        let loaded = reader.load(&blocks, DEADLINE).await;
        (loaded.len() == blocks.len()).then_some(loaded)
    })
    .await;
    for (block, expected) in loaded.iter().zip(&blocks) {
        assert_eq!((block.source(), block.bytes()), (LoadSource::Peer, &bytes_of(expected)[..]));
    }
    for node in nodes {
        node.drain(DEADLINE).await;
    }
    metadata.drain(DEADLINE).await;
}

#[tokio::test]
async fn an_engine_s_device_tier_is_listed_while_it_is_attached() {
    let fleet = Fleet::new();
    let telemetry = Telemetry::for_tests();
    let node = Node::bind(fleet.config(0), &telemetry).await.unwrap();
    let engine = fleet.engine(0, "e0").await;
    let endpoint = fleet.group.roster().endpoints["e0".parse().as_ref().unwrap()].clone();
    assert_eq!((endpoint.url.as_str(), endpoint.node), ("http://e0", Some(id("n0"))));
    let blocks = prefix(0..10);
    engine.device_changed(&blocks, &[]);
    engine.device_changed(&[], &blocks[7..]);
    fleet.believes(&device("e0"), &blocks, |block| block < 7).await;
    assert_eq!(metric(&telemetry, "weft_node_blocks", "device"), 7.0);
    assert_eq!(metric(&telemetry, "weft_node_bytes", "device"), 7.0 * world::BLOCK_BYTES as f64);
    drop(engine);
    fleet.believes(&device("e0"), &blocks, |_| false).await;
    world::eventually(async || fleet.group.roster().endpoints.is_empty().then_some(())).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn an_engine_that_attaches_is_granted_its_place_once() {
    let fleet = Fleet::new();
    let first = fleet.node(0).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..10);
    engine.device_changed(&blocks[..1], &[]);
    fleet.believes(&device("e0"), &blocks, |block| block < 1).await;
    assert_eq!(fleet.group.grants("e0"), 1);

    // As in a crash: nobody is told, and the client attaches to the next life by itself.
    drop(first);
    let second = world::eventually(async || Node::bind(fleet.config(0), &Telemetry::for_tests()).await.ok()).await;
    world::eventually(async || (fleet.group.grants("e0") > 1 && engine.is_attached()).then_some(())).await;
    // What is believed now came after everything that the client says at first.
    engine.device_changed(&blocks[1..], &[]);
    fleet.believes(&device("e0"), &blocks, |_| true).await;
    assert_eq!(fleet.group.grants("e0"), 2);
    second.drain(DEADLINE).await;
}

#[tokio::test]
async fn evictions_are_reported() {
    let fleet = Fleet::new();
    let mut config = fleet.config(0);
    config.host_memory = ByteSize::from_mib(2);
    let node = Node::bind(config, &Telemetry::for_tests()).await.unwrap();
    let engine = fleet.engine(0, "e0").await;
    store(&engine, &prefix(0..512)).await;
    store(&engine, &prefix(1000..1100)).await;
    fleet.believes(&host("n0"), &prefix(1000..1100), |_| true).await;
    // The deepest hundred of the first chain had to go.
    fleet.believes(&host("n0"), &prefix(0..512), |block| block < 412).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_joins_again_with_everything_it_holds() {
    let fleet = Fleet::new();
    let node = fleet.node(0).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..10);
    store(&engine, &blocks).await;
    engine.device_changed(&blocks[..4], &[]);
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    fleet.group.expire(&id("n0"));
    assert!(fleet.group.roster().nodes.is_empty());
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    fleet.believes(&device("e0"), &blocks, |block| block < 4).await;
    assert!(engine.is_attached(), "its engines noticed nothing");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn an_engine_that_attaches_while_the_node_is_taken_for_dead_is_let_in() {
    let fleet = Fleet::new();
    let node = fleet.node(0).await;
    let _first = fleet.engine(0, "e0").await;
    fleet.group.expire(&id("n0"));
    let _second = fleet.engine(0, "e1").await;
    let listed = || fleet.group.roster().endpoints.len() == 2 && fleet.group.roster().nodes.len() == 1;
    world::eventually(async || listed().then_some(())).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_restarted_daemon_comes_back_under_a_new_incarnation_with_its_engines() {
    let fleet = Fleet::new();
    let first = fleet.node(0).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..10);
    store(&engine, &blocks).await;
    engine.device_changed(&blocks, &[]);
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    // As in a crash: nobody is told.
    drop(first);
    let second = world::eventually(async || Node::bind(fleet.config(0), &Telemetry::for_tests()).await.ok()).await;
    assert!(second.incarnation() > Incarnation::new(1));
    fleet.believes(&host("n0"), &blocks, |_| false).await;
    fleet.believes(&device("e0"), &blocks, |_| true).await;
    assert_eq!(fleet.group.roster().nodes[&id("n0")].incarnation, second.incarnation());
    store(&engine, &blocks[..5]).await;
    fleet.believes(&host("n0"), &blocks, |block| block < 5).await;
    second.drain(DEADLINE).await;
}

#[tokio::test]
async fn while_metadata_is_away_engines_attach_store_and_load_and_it_learns_of_it_later() {
    let fleet = Fleet::new();
    let node = fleet.node(0).await;
    let early = fleet.engine(0, "e0").await;
    fleet.group.silence().await;
    let late = fleet.engine(0, "e1").await;
    let blocks = prefix(0..10);
    assert_eq!(store(&late, &blocks).await.stored, 10);
    assert_eq!(early.load(&blocks, DEADLINE).await.len(), 10);
    assert_eq!(early.load(&prefix(0..11), Duration::from_millis(200)).await.len(), 10, "what is here is served");
    fleet.group.serve();
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    world::eventually(async || (fleet.group.roster().endpoints.len() == 2).then_some(())).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_contract_that_the_cluster_did_not_agree_on_is_refused_with_both_sides() {
    let fleet = Fleet::new();
    let nodes = [fleet.node(0).await, fleet.node(1).await];
    let _engine = fleet.engine(0, "e0").await;
    let mut config = attach_config(&fleet.hosts[1].socket(), "e1");
    config.contract.parts[0].bytes = 77;
    let error = NodeClient::attach(config).await.unwrap_err();
    let AttachError::Refused { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("bytes: 77") && reason.contains(&format!("bytes: {}", world::BLOCK_BYTES)), "{reason}");
    for node in nodes {
        node.drain(DEADLINE).await;
    }
}

#[tokio::test]
async fn two_engines_of_one_name_do_not_push_each_other_out() {
    let fleet = Fleet::new();
    let node = fleet.node(0).await;
    let first = fleet.engine(0, "e0").await;
    let mut config = attach_config(&fleet.hosts[0].socket(), "e0");
    let error = NodeClient::attach(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("an engine is attached as endpoint e0 already"), "{error}");
    assert!(first.is_attached());
    config.incarnation = Incarnation::new(2);
    let _second = NodeClient::attach(config).await.unwrap();
    world::eventually(async || (!first.is_attached()).then_some(())).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_certificate_of_another_node_is_refused_at_start() {
    let fleet = Fleet::new();
    let mut config = fleet.config(0);
    config.name = id("n1");
    let error = Node::bind(config, &Telemetry::for_tests()).await.unwrap_err().to_string();
    assert!(error.contains("of node 'n0', and this is node 'n1'"), "{error}");
}
