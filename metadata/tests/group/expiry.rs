//! Liveness: a node that keeps alive stays, across a change of leader too; one that does not is retired.

use std::time::Duration;

use weft_index::DirectoryChange;
use weft_metadata_proto::v1::{KeepAliveRequest, RosterRequest, WatchItem, WatchRequest, WatchScope, method};
use weft_types::{Incarnation, NodeId, Role};

use crate::cluster::{Caller, Cluster, PATIENCE, SHARD, keys, stored};

async fn keep_alive(node: Caller, name: &str) {
    let request = KeepAliveRequest { shard: SHARD, node: name.parse().unwrap(), incarnation: Incarnation::new(1) };
    let mut every = tokio::time::interval(Duration::from_millis(250));
    loop {
        every.tick().await;
        assert!(node.ask::<method::KeepAlive, bool>(&request).await, "{name} was expired though it kept alive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_retired_and_a_live_one_outlives_the_leader() {
    // Long enough for an election on a busy machine: the live node must never be silent for so long.
    let mut cluster = Cluster::start(|config| config.node_lease = Duration::from_secs(8)).await;
    let (alive, silent) = (cluster.caller(Role::Node, "alive"), cluster.caller(Role::Node, "silent"));
    let grants = (alive.join("alive", 1).await, silent.join("silent", 1).await);
    alive.report(vec![stored(&grants.0, 1)]).await;
    silent.report(vec![stored(&grants.1, 1), stored(&grants.1, 2)]).await;
    let keeping = tokio::spawn(keep_alive(alive.clone(), "alive"));

    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let leader = cluster.leader().await;
    let router = cluster.caller(Role::Router, "r1");
    let request = WatchRequest { shard: SHARD, resume: None, scope: WatchScope::Directory, filter: None };
    let target = router.target(leader);
    let watching = router.fabric().subscribe::<method::Watch>(&target, &request, PATIENCE);
    let mut watch = watching.await.unwrap();
    let id: NodeId = "silent".parse().unwrap();
    let expired = tokio::time::timeout(PATIENCE, async {
        loop {
            let item = watch.next().await.unwrap().expect("the watch goes on");
            if let WatchItem::Changes { changes, .. } = item
                && changes.contains(&DirectoryChange::Node(id.clone(), None))
            {
                return changes;
            }
        }
    });
    let changes = expired.await.expect("the silent node was never expired");
    assert!(changes.contains(&DirectoryChange::HolderRetired(grants.1.holder)), "{changes:?}");

    let found = router.lookup(leader, &keys(2)).await;
    assert_eq!(found.matches.iter().map(|found| found.grant.holder).collect::<Vec<_>>(), [grants.0.holder]);
    let roster = router.call::<method::Roster>(leader, &RosterRequest { shard: SHARD }).await.unwrap().roster;
    assert_eq!(roster.nodes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["alive"]);
    let request = KeepAliveRequest { shard: SHARD, node: id, incarnation: Incarnation::new(1) };
    assert!(!silent.ask::<method::KeepAlive, bool>(&request).await, "it must hear that it is to join again");
    assert!(!keeping.is_finished());
    keeping.abort();
}
