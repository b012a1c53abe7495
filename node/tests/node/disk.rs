//! The disk tier of a node: what left host memory, or was in it when the daemon was killed, is loaded from disk; what is not
//! there as it was written is a miss.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_node::{BindError, Config, DiskAdmission, DiskConfig, Node};
use weft_node_client::{LoadSource, NodeClient};
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, ByteSize};

use crate::fleet::Fleet;
use crate::metadata;
use crate::world::{self, DEADLINE, Host, bytes_of, metric, prefix, store};

/// A node with 2 MiB of host memory, 512 slots, and 16 MiB of disk.
fn with_disk(folder: PathBuf) -> impl FnOnce(&mut Config) {
    move |config| {
        config.host_memory = ByteSize::from_mib(2);
        config.disk =
            Some(DiskConfig { path: folder, size: ByteSize::from_mib(16), admission: DiskAdmission::SeenTwice });
    }
}

async fn node(host: &Host, telemetry: &Telemetry) -> Node {
    let node = Node::bind(host.config(with_disk(host.path().join("disk"))), telemetry).await.unwrap();
    world::eventually(async || (metric(telemetry, "weft_node_disk_phase", "open") == 1.0).then_some(())).await;
    node
}

/// Stores blocks, and asks for them again, so that they earn their place on disk; returns once they have it.
async fn settle(engine: &NodeClient, telemetry: &Telemetry, blocks: &[BlockHash]) {
    let before = metric(telemetry, "weft_node_demotions_total", "stored");
    assert_eq!(store(engine, blocks).await.stored, blocks.len());
    assert_eq!(engine.load(blocks, DEADLINE).await.len(), blocks.len());
    let settled = before + blocks.len() as f64;
    world::eventually(async || (metric(telemetry, "weft_node_demotions_total", "stored") >= settled).then_some(()))
        .await;
}

/// Loads blocks, all of which have to come from `source` with the bytes they were stored with.
async fn load(engine: &NodeClient, blocks: &[BlockHash], source: LoadSource) {
    let loaded = engine.load(blocks, DEADLINE).await;
    assert_eq!(loaded.len(), blocks.len());
    for (block, expected) in loaded.iter().zip(blocks) {
        assert_eq!((block.source(), block.bytes()), (source, &bytes_of(expected)[..]));
    }
}

/// Changes the first of a block's bytes on disk; they are found by what they are.
fn spoil(folder: &Path, block: &BlockHash) {
    let mut spoiled = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("segment-") {
            continue;
        }
        let (content, wanted) = (std::fs::read(&path).unwrap(), bytes_of(block));
        let at = content.chunks_exact(4096).position(|page| page[..wanted.len()] == wanted);
        if let Some(page) = at {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_at(&[!wanted[0]], page as u64 * 4096).unwrap();
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 1);
}

#[tokio::test]
async fn what_left_host_memory_is_loaded_from_disk() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry).await;
    let engine = host.engine("engine").await;
    let blocks = prefix(0..100);
    settle(&engine, &telemetry, &blocks).await;
    store(&engine, &prefix(1000..1512)).await;
    load(&engine, &blocks, LoadSource::Disk).await;
    load(&engine, &blocks, LoadSource::Host).await;
    assert_eq!(metric(&telemetry, "weft_node_loaded_blocks_total", "disk"), 100.0);
    assert_eq!(metric(&telemetry, "weft_node_promotions_total", "landed"), 100.0);
    assert_eq!(metric(&telemetry, "weft_node_disk_blocks_total", "read"), 100.0);
    assert_eq!(metric(&telemetry, "weft_node_blocks", "disk"), 100.0, "those that were stored once do not earn it");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn blocks_that_come_a_second_time_are_written_before_they_leave() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry).await;
    let engine = host.engine("engine").await;
    let unearned = async || metric(&telemetry, "weft_node_demotions_total", "unearned");
    // Each round pushes the one before out. An engine that is faster than the thread that looks pushes them out unseen.
    world::eventually(async || {
        store(&engine, &prefix(0..512)).await;
        store(&engine, &prefix(1000..1512)).await;
        (metric(&telemetry, "weft_node_demotions_total", "stored") >= 50.0).then_some(())
    })
    .await;
    assert!(unearned().await >= 50.0);
    assert_eq!(metric(&telemetry, "weft_node_loaded_blocks_total", "host"), 0.0, "nobody asked for one");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn blocks_outlive_a_daemon_that_is_killed() {
    let host = Host::new();
    let mut daemon = host.process("disk::serve_until_killed");
    world::eventually(async || host.path().join("ready").exists().then_some(())).await;
    let engine = host.engine("engine").await;
    let blocks = prefix(0..100);
    store(&engine, &blocks).await;
    assert_eq!(engine.load(&blocks, DEADLINE).await.len(), 100);
    world::eventually(async || host.path().join("settled").exists().then_some(())).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let telemetry = Telemetry::for_tests();
    let node = node(&host, &telemetry).await;
    world::eventually(async || engine.is_attached().then_some(())).await;
    load(&engine, &blocks, LoadSource::Disk).await;
    assert!(metric(&telemetry, "weft_node_disk_recovery_seconds", "") > 0.0);
    node.drain(DEADLINE).await;
}

/// Not a test: the daemon of the one above.
#[tokio::test]
#[ignore = "run as a process of its own by blocks_outlive_a_daemon_that_is_killed"]
async fn serve_until_killed() {
    let Some(socket) = std::env::var_os("WEFT_TEST_SOCKET") else { return };
    let (host, telemetry) = (Host::of(Path::new(&socket)), Telemetry::for_tests());
    let _node = node(&host, &telemetry).await;
    std::fs::write(host.path().join("ready"), "").unwrap();
    world::eventually(async || (metric(&telemetry, "weft_node_demotions_total", "stored") >= 100.0).then_some(()))
        .await;
    std::fs::write(host.path().join("settled"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_byte_that_changed_on_disk_is_a_miss() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let node = node(&host, &telemetry).await;
    let engine = host.engine("engine").await;
    let blocks = prefix(0..20);
    settle(&engine, &telemetry, &blocks).await;
    store(&engine, &prefix(1000..1512)).await;
    spoil(&host.path().join("disk"), &blocks[7]);
    load(&engine, &blocks[..7], LoadSource::Disk).await;
    assert_eq!(engine.load(&blocks, DEADLINE).await.len(), 7, "up to the one that changed");
    assert_eq!(metric(&telemetry, "weft_node_disk_blocks_total", "corrupt"), 1.0);
    assert_eq!(metric(&telemetry, "weft_node_promotions_total", "lost"), 1.0);
    assert_eq!(metric(&telemetry, "weft_node_blocks", "disk"), 19.0, "and it is there no longer");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn the_directory_hears_of_the_disk_tier_and_of_what_is_found_there_after_a_restart() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let start = async |telemetry: &Telemetry| {
        let mut config = fleet.config(0);
        with_disk(fleet.path(0).join("disk"))(&mut config);
        Node::bind(config, telemetry).await.unwrap()
    };
    let node = start(&telemetry).await;
    let engine = fleet.engine(0, "e0").await;
    let (blocks, disk) = (prefix(0..100), metadata::disk("n0"));
    settle(&engine, &telemetry, &blocks).await;
    fleet.believes(&disk, &blocks, |_| true).await;
    assert_eq!(fleet.group.roster().nodes.values().next().unwrap().capacity.len(), 2);
    node.drain(DEADLINE).await;
    fleet.believes(&disk, &blocks, |_| false).await;

    let telemetry = Telemetry::for_tests();
    let node = start(&telemetry).await;
    fleet.believes(&disk, &blocks, |_| true).await;
    fleet.believes(&metadata::host("n0"), &blocks, |_| false).await;
    world::eventually(async || engine.is_attached().then_some(())).await;
    spoil(&fleet.path(0).join("disk"), &blocks[3]);
    assert_eq!(engine.load(&blocks, DEADLINE).await.len(), 3);
    fleet.believes(&disk, &blocks, |block| block != 3).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_peer_fetches_what_is_only_on_disk() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let mut config = fleet.config(0);
    with_disk(fleet.path(0).join("disk"))(&mut config);
    let holder = Node::bind(config, &telemetry).await.unwrap();
    let other = Node::bind(fleet.config(1), &Telemetry::for_tests()).await.unwrap();
    let (writer, reader) = (fleet.engine(0, "e0").await, fleet.engine(1, "e1").await);
    let blocks = prefix(0..100);
    settle(&writer, &telemetry, &blocks).await;
    store(&writer, &prefix(1000..1512)).await;
    fleet.believes(&metadata::host("n0"), &blocks, |_| false).await;
    fleet.believes(&metadata::disk("n0"), &blocks, |_| true).await;
    spoil(&fleet.path(0).join("disk"), &blocks[60]);
    load(&reader, &blocks[..60], LoadSource::Peer).await;
    assert_eq!(reader.load(&blocks, DEADLINE).await.len(), 60, "a byte that changed is nobody's block");
    assert_eq!(metric(&telemetry, "weft_node_disk_blocks_total", "corrupt"), 1.0);
    assert_eq!(
        metric(&telemetry, "weft_node_stored_blocks_total", ""),
        612.0,
        "it did not go through the holder's memory"
    );
    holder.drain(DEADLINE).await;
    other.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_folder_of_another_node_is_left_alone() {
    let (host, telemetry) = (Host::new(), Telemetry::for_tests());
    let first = node(&host, &telemetry).await;
    let engine = host.engine("engine").await;
    settle(&engine, &telemetry, &prefix(0..3)).await;
    let folder = host.path().join("disk");
    let other = Host::new();
    let error = Node::bind(other.config(with_disk(folder.clone())), &Telemetry::for_tests()).await.unwrap_err();
    assert!(matches!(error, BindError::Disk(_)) && error.to_string().contains("in use"), "{error}");
    first.drain(DEADLINE).await;

    let telemetry = Telemetry::for_tests();
    let mut config = other.config(with_disk(folder));
    config.name = "n2".parse().unwrap();
    let second = Node::bind(config, &telemetry).await.unwrap();
    world::eventually(async || (metric(&telemetry, "weft_node_disk_phase", "aside") == 1.0).then_some(())).await;
    let engine = other.engine("engine").await;
    assert_eq!(store(&engine, &prefix(0..3)).await.stored, 3, "the node serves without it");
    second.drain(DEADLINE).await;
    drop(Arc::new(node(&host, &Telemetry::for_tests()).await));
}
