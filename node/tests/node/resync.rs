//! What is lost on the way to the directory, with or without anybody's noticing, is put right under the same grant.

use std::time::Duration;

use weft_node::Node;
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, ByteSize};

use crate::fleet::Fleet;
use crate::metadata::{device, host};
use crate::world::{self, DEADLINE, metric, prefix, store};

/// Soon enough for a test.
const SOON: Duration = Duration::from_millis(100);

async fn node(fleet: &Fleet, telemetry: &Telemetry, anti_entropy: Duration) -> Node {
    let mut config = fleet.config(0);
    config.anti_entropy = anti_entropy;
    Node::bind(config, telemetry).await.unwrap()
}

async fn acknowledged(telemetry: &Telemetry, reports: f64) {
    let acked = || metric(telemetry, "weft_node_reports_total", "acked");
    world::eventually(async || (acked() >= reports).then_some(())).await;
}

fn listed(fleet: &Fleet, blocks: &[BlockHash]) -> usize {
    fleet.group.holds(&host("n0"), blocks).into_iter().filter(|held| *held).count()
}

#[tokio::test]
async fn a_report_that_was_lost_is_noticed_by_the_next_and_only_what_differs_is_sent_again() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let node = node(&fleet, &telemetry, Duration::ZERO).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..40);
    store(&engine, &blocks[..10]).await;
    fleet.believes(&host("n0"), &blocks, |block| block < 10).await;
    acknowledged(&telemetry, 1.0).await;
    let acked = metric(&telemetry, "weft_node_reports_total", "acked");
    fleet.group.lose(1);
    store(&engine, &blocks[10..20]).await;
    acknowledged(&telemetry, acked + 1.0).await;
    assert_eq!(listed(&fleet, &blocks), 10, "acknowledged, and lost");
    store(&engine, &blocks[20..]).await;
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    let repaired = || metric(&telemetry, "weft_node_repaired_blocks_total", "host") == 10.0;
    world::eventually(async || repaired().then_some(())).await;
    assert_eq!(metric(&telemetry, "weft_node_resyncs_total", "gap"), 1.0);
    assert_eq!(fleet.group.joins(), 1, "under the same grant");
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn a_loss_that_no_number_tells_of_is_found_by_comparing() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let node = node(&fleet, &telemetry, SOON).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..40);
    fleet.group.empty(2);
    store(&engine, &blocks).await;
    engine.device_changed(&blocks[..7], &[]);
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    fleet.believes(&device("e0"), &blocks, |block| block < 7).await;
    let same = |found| metric(&telemetry, "weft_node_divergence_blocks", found) == 0.0;
    world::eventually(async || (same("host") && same("device")).then_some(())).await;
    assert_eq!(fleet.group.joins(), 1);
    assert!(metric(&telemetry, "weft_node_comparisons_total", "different") >= 1.0);
    node.drain(DEADLINE).await;
}

/// The twin of the one above: it is the comparing that finds it.
#[tokio::test]
async fn a_loss_that_no_number_tells_of_stays_where_nothing_is_compared() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let node = node(&fleet, &telemetry, Duration::ZERO).await;
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..40);
    fleet.group.empty(1);
    store(&engine, &blocks[..10]).await;
    acknowledged(&telemetry, 1.0).await;
    store(&engine, &blocks[10..]).await;
    fleet.believes(&host("n0"), &blocks, |block| block >= 10).await;
    assert_eq!(fleet.group.comparisons(), 0);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn what_is_listed_and_not_held_is_found_too() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let mut config = fleet.config(0);
    (config.anti_entropy, config.host_memory) = (SOON, ByteSize::from_mib(2));
    let node = Node::bind(config, &telemetry).await.unwrap();
    let engine = fleet.engine(0, "e0").await;
    let (old, new) = (prefix(0..512), prefix(1000..1512));
    store(&engine, &old).await;
    fleet.believes(&host("n0"), &old, |_| true).await;
    // All of it makes room, and the directory hears of nothing.
    fleet.group.empty(1);
    store(&engine, &new).await;
    fleet.believes(&host("n0"), &new, |_| true).await;
    fleet.believes(&host("n0"), &old, |_| false).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn while_blocks_come_and_go_losses_are_repaired_all_the_same() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let mut config = fleet.config(0);
    (config.anti_entropy, config.host_memory) = (SOON, ByteSize::from_mib(2));
    let node = Node::bind(config, &telemetry).await.unwrap();
    let engine = fleet.engine(0, "e0").await;
    for round in 0..60 {
        match round % 3 {
            0 => fleet.group.lose(1),
            1 => fleet.group.empty(1),
            _ => {}
        }
        store(&engine, &prefix(round * 37..round * 37 + 50)).await;
        tokio::task::yield_now().await;
    }
    fleet.group.lose(0);
    fleet.group.empty(0);
    let all = prefix(0..60 * 37 + 50);
    // The truth, once nothing changes any more: what can be loaded here, block by block.
    let mut held = Vec::new();
    for block in &all {
        held.push(!engine.load(std::slice::from_ref(block), DEADLINE).await.is_empty());
    }
    fleet.believes(&host("n0"), &all, |block| held[block]).await;
    assert_eq!(fleet.group.joins(), 1);
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn what_a_full_directory_does_not_take_is_told_and_not_sent_again_and_again() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let node = node(&fleet, &telemetry, Duration::from_millis(5)).await;
    fleet.group.limit(10);
    let engine = fleet.engine(0, "e0").await;
    let blocks = prefix(0..30);
    store(&engine, &blocks).await;
    world::eventually(async || (fleet.group.comparisons() > 20).then_some(())).await;
    assert_eq!(listed(&fleet, &blocks), 10);
    assert_eq!(metric(&telemetry, "weft_node_divergence_blocks", "host"), 20.0);
    assert!(metric(&telemetry, "weft_node_reports_total", "sent") < 200.0, "most turns compare and leave it at that");
    fleet.group.limit(100);
    fleet.believes(&host("n0"), &blocks, |_| true).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn where_nothing_is_lost_a_comparison_amid_changes_finds_nothing() {
    let (fleet, telemetry) = (Fleet::new(), Telemetry::for_tests());
    let mut config = fleet.config(0);
    (config.anti_entropy, config.host_memory) = (Duration::from_millis(2), ByteSize::from_mib(2));
    let node = Node::bind(config, &telemetry).await.unwrap();
    let engine = fleet.engine(0, "e0").await;
    let mut round = 0;
    while fleet.group.comparisons() < 1000 {
        store(&engine, &prefix(round * 37..round * 37 + 50)).await;
        round += 1;
    }
    assert_eq!(metric(&telemetry, "weft_node_comparisons_total", "different"), 0.0);
    node.drain(DEADLINE).await;
}
