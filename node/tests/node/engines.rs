//! Engines on one node: what one stores the other loads, and what becomes of it when processes go.

use std::time::Duration;

use crate::world::{self, DEADLINE, Host, attach_config, bytes_of, contract, hash, metric, prefix, store};
use weft_node::Node;
use weft_node_client::{AttachError, LoadSource, NodeClient};
use weft_service::telemetry::Telemetry;
use weft_types::{ByteSize, Incarnation};

#[tokio::test]
async fn what_one_engine_stores_another_loads() {
    let host = Host::new();
    let node = host.node().await;
    let (writer, reader) = (host.engine("writer").await, host.engine("reader").await);
    let blocks = prefix(0..40);
    assert!(reader.load(&blocks, DEADLINE).await.is_empty(), "nothing is here yet");

    let stored = store(&writer, &blocks).await;
    assert_eq!((stored.stored, stored.present, stored.refused), (40, 0, 0));
    let loaded = reader.load(&prefix(0..50), DEADLINE).await;
    assert_eq!(loaded.len(), 40, "the leading run, and no more");
    for (block, expected) in loaded.iter().zip(&blocks) {
        assert_eq!((block.hash(), block.source()), (*expected, LoadSource::Host));
        assert_eq!(block.bytes(), bytes_of(expected));
    }
    assert!(reader.load(&prefix(1..50), DEADLINE).await.len() == 39, "a run may begin anywhere");
    assert!(reader.load(&[hash(999), blocks[0]], DEADLINE).await.is_empty(), "a hole at the front is a miss");

    let again = store(&writer, &prefix(0..41)).await;
    assert_eq!((again.stored, again.present), (1, 40));
    drop(loaded);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_pinned_block_survives_pressure_and_the_front_of_a_chain_stays_longest() {
    let host = Host::new();
    let node = host.node_with(|config| config.host_memory = ByteSize::from_mib(2)).await;
    let engine = host.engine("engine").await;
    // 2 MiB of 4 KiB slots.
    const SLOTS: u32 = 512;
    store(&engine, &prefix(0..10)).await;
    let pinned = engine.load(&prefix(0..10), DEADLINE).await;
    assert_eq!(pinned.len(), 10);
    let others = prefix(1000..1000 + SLOTS);
    let stored = store(&engine, &others).await;
    assert_eq!(stored.stored, SLOTS as usize, "the chain evicts what is cold, at last its own front");
    for (block, expected) in pinned.iter().zip(prefix(0..10)) {
        assert_eq!(block.bytes(), bytes_of(&expected), "what is pinned is not evicted");
    }
    drop(pinned);

    let chain = prefix(0..10);
    while engine.load(&chain, DEADLINE).await.len() < chain.len() {
        store(&engine, &chain).await;
    }
    // Everything but the chain is colder: the next SLOTS - 5 blocks take five of its ten.
    let stored = store(&engine, &prefix(5000..5000 + SLOTS - 5)).await;
    assert_eq!(stored.stored, SLOTS as usize - 5);
    assert_eq!(engine.load(&chain, DEADLINE).await.len(), 5, "the chain lost its end, not its front");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_store_that_finds_no_slot_is_refused_and_the_rest_of_the_chain_with_it() {
    let host = Host::new();
    let node = host.node_with(|config| config.host_memory = ByteSize::from_mib(2)).await;
    let engine = host.engine("engine").await;
    store(&engine, &prefix(0..512)).await;
    let pinned = engine.load(&prefix(0..512), DEADLINE).await;
    assert_eq!(pinned.len(), 512);
    let stored = store(&engine, &prefix(1000..1003)).await;
    assert_eq!((stored.stored, stored.refused), (0, 3));
    drop(pinned);
    let stored = world::eventually(async || {
        let stored = store(&engine, &prefix(1000..1003)).await;
        (stored.refused == 0).then_some(stored)
    })
    .await;
    assert_eq!(stored.stored + stored.present, 3, "released pins make room");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_contract_that_disagrees_is_refused_with_both_sides() {
    let host = Host::new();
    let node = host.node().await;
    let _engine = host.engine("first").await;
    let mut config = attach_config(&host.socket(), "second");
    config.contract.parts[0].bytes = 77;
    let error = NodeClient::attach(config).await.unwrap_err();
    let AttachError::Refused { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("bytes: 77") && reason.contains(&format!("bytes: {}", world::BLOCK_BYTES)), "{reason}");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_second_contract_waits_for_the_memory_of_the_first() {
    let host = Host::new();
    let node = host.node().await;
    let first = host.engine("first").await;
    let mut config = attach_config(&host.socket(), "second");
    config.contract = contract("another-model");
    let error = NodeClient::attach(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("host memory asked"), "{error}");
    first.detach().await;
    let second = world::eventually(async || NodeClient::attach(config.clone()).await.ok()).await;
    assert_eq!(store(&second, &prefix(0..3)).await.stored, 3);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_daemon_that_restarts_is_found_again_and_old_blocks_stay_readable() {
    let host = Host::new();
    let first = host.node().await;
    let engine = host.engine("engine").await;
    let blocks = prefix(0..4);
    store(&engine, &blocks).await;
    let held = engine.load(&blocks, DEADLINE).await;
    assert_eq!(first.incarnation(), Incarnation::new(1));
    first.drain(DEADLINE).await;
    world::eventually(async || (!engine.is_attached()).then_some(())).await;
    assert!(engine.load(&blocks, DEADLINE).await.is_empty());
    assert_eq!(store(&engine, &blocks).await.refused, 4);

    let second = host.node().await;
    assert_eq!(second.incarnation(), Incarnation::new(2));
    world::eventually(async || engine.is_attached().then_some(())).await;
    assert!(engine.load(&blocks, DEADLINE).await.is_empty(), "an old region is never read as new");
    let others = prefix(100..104);
    assert_eq!(store(&engine, &others).await.stored, 4);
    assert_eq!(engine.load(&others, DEADLINE).await.len(), 4);
    for (block, expected) in held.iter().zip(&blocks) {
        assert_eq!(block.bytes(), bytes_of(expected));
    }
    second.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_hung_daemon_costs_one_deadline_and_then_nothing() {
    let host = Host::new();
    // A daemon that shakes hands properly and then never answers.
    let node = host.node().await;
    let engine = NodeClient::attach({
        let mut config = attach_config(&host.proxy_that_hangs(), "engine");
        config.deadline = Duration::from_millis(50);
        config
    })
    .await
    .unwrap();
    assert!(engine.load(&prefix(0..4), Duration::from_millis(50)).await.is_empty());
    assert!(!engine.is_attached(), "the breaker is open");
    assert_eq!(store(&engine, &prefix(0..4)).await.refused, 4);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn slots_that_a_killed_engine_had_reserved_come_back() {
    let host = Host::new();
    let telemetry = Telemetry::for_tests();
    let config = host.config(|config| config.host_memory = ByteSize::from_mib(2));
    let node = Node::bind(config, &telemetry).await.unwrap();
    let mut engine = host.process("engines::reserve_and_hang");
    world::eventually(async || (metric(&telemetry, "weft_node_host_slots", "reserved") == 256.0).then_some(())).await;
    engine.kill().unwrap();
    engine.wait().unwrap();
    world::eventually(async || (metric(&telemetry, "weft_node_host_slots", "reserved") == 0.0).then_some(())).await;
    let other = host.engine("other").await;
    assert_eq!(store(&other, &prefix(0..512)).await.stored, 512, "every slot can be used again");
    node.drain(DEADLINE).await;
}

/// Not a test: the engine process of the one above.
#[tokio::test]
#[ignore = "run as a process of its own by slots_that_a_killed_engine_had_reserved_come_back"]
async fn reserve_and_hang() {
    let Some(socket) = std::env::var_os("WEFT_TEST_SOCKET") else { return };
    let engine = NodeClient::attach(attach_config(socket.as_ref(), "victim")).await.unwrap();
    engine
        .store(&prefix(0..256), |_, _| {
            loop {
                std::thread::park();
            }
        })
        .await;
}

#[tokio::test]
async fn an_engine_that_breaks_its_connection_keeps_its_pins_until_it_lets_go() {
    let host = Host::new();
    let telemetry = Telemetry::for_tests();
    let node = Node::bind(host.config(|_| {}), &telemetry).await.unwrap();
    let engine = host.engine("engine").await;
    store(&engine, &prefix(0..3)).await;
    let held = engine.load(&prefix(0..3), DEADLINE).await;
    drop(engine);
    let other = host.engine("other").await;
    world::eventually(async || (metric(&telemetry, "weft_node_attached_engines", "") == 1.0).then_some(())).await;
    assert_eq!(metric(&telemetry, "weft_node_host_slots", "pinned"), 3.0, "this process could still be reading");
    assert_eq!(held[2].bytes(), bytes_of(&hash(2)));
    assert_eq!(other.load(&prefix(0..3), DEADLINE).await.len(), 3);
    node.drain(DEADLINE).await;
}
