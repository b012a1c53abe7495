//! SIGKILL of a node in the middle of a replay: no request fails, its holdings leave the index with its lease, and it comes
//! back under a later incarnation.

use serde_json::Value;
use weft_cluster_tests::{Cluster, Replay};

/// Holders of the node and of the engines that were attached to it.
fn holders<'a>(status: &'a Value, node: &str) -> Vec<&'a Value> {
    let all = status["holders"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(|holder| holder["key"].as_str().is_some_and(|key| key.starts_with(&format!("{node}/")))).collect()
}

fn incarnation(status: &Value, node: &str) -> Option<u64> {
    holders(status, node).first()?["incarnation"].as_u64()
}

#[test]
fn a_replay_survives_the_death_of_a_node() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let replay = Replay::start(&cluster, 200, "20s").unwrap();
    replay.answered(60.0).unwrap();
    let before = cluster.status().unwrap();
    let first = incarnation(&before, "node-1").expect("node-1 holds blocks");

    cluster.kill("node-1").unwrap();
    cluster.await_status("its holdings are gone", |status| holders(status, "node-1").is_empty().then_some(())).unwrap();
    let without = cluster.status().unwrap();
    assert!(without["blocks"].as_u64().unwrap() > 0, "those of node-2 are still there");
    assert!(!holders(&without, "node-2").is_empty());

    cluster.start_again("node-1").unwrap();
    let second = cluster.await_status("node-1 is back", |status| incarnation(status, "node-1")).unwrap();
    assert!(second > first, "incarnation {second} after {first}");

    let report = replay.finish().unwrap();
    assert_eq!((&report["failures"], &report["requests"]), (&0.0.into(), &200.0.into()), "{report}");

    // Its engines have attached again without a restart: their device tiers are in the index under the same endpoints.
    cluster
        .await_status("its engines are attached again", |status| {
            let keys: Vec<_> =
                status["holders"].as_array()?.iter().filter_map(|holder| holder["key"].as_str()).collect();
            ["engine-1:0/device", "engine-3:0/device"].iter().all(|key| keys.contains(key)).then_some(())
        })
        .unwrap();
}
