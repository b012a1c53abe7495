//! Every node is stopped in good order in the middle of a replay: no request fails, since the engines themselves are well,
//! and their endpoints stay listed.

use serde_json::Value;
use weft_cluster_tests::{Cluster, Replay};

fn count(status: &Value, what: &str) -> usize {
    status[what].as_array().map_or(0, Vec::len)
}

#[test]
fn a_replay_survives_the_drain_of_every_node() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let replay = Replay::start(&cluster, 200, "20s").unwrap();
    replay.answered(60.0).unwrap();

    for node in ["node-1", "node-2"] {
        cluster.terminate(node).unwrap();
    }
    cluster.await_status("both nodes have left", |status| (count(status, "nodes") == 0).then_some(())).unwrap();
    let without = cluster.status().unwrap();
    assert_eq!(count(&without, "endpoints"), 4, "the engines are still there: {without}");
    assert_eq!(count(&without, "holders"), 0, "nobody vouches for what they hold: {without}");

    let report = replay.finish().unwrap();
    assert_eq!((&report["failures"], &report["requests"]), (&0.0.into(), &200.0.into()), "{report}");

    // The nodes come back, and with them what the engines hold: two tiers and four devices.
    for node in ["node-1", "node-2"] {
        cluster.start_again(node).unwrap();
    }
    cluster.await_status("everybody is back", |status| (count(status, "holders") == 6).then_some(())).unwrap();
}
