//! Reports: numbered, fenced, folded.

use weft_index::{Digests, ReportAck};
use weft_metadata_proto::v1::{DigestsRequest, LeaveRequest, method};
use weft_types::{Generation, Role};

use crate::cluster::{Cluster, SHARD, keys, stored};

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_duplicates_are_told_apart() {
    let cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    let report = |number| stored(&grant, number);
    assert_eq!(node.report(vec![report(2)]).await, [ReportAck::Gap { expected: 1 }]);
    let acks = node.report(vec![report(1), report(1), report(3), report(2), report(3)]).await;
    let applied = |number| ReportAck::Applied { number };
    assert_eq!(acks, [applied(1), applied(1), ReportAck::Gap { expected: 2 }, applied(2), applied(3)]);

    let mut other = report(4);
    other.generation = Generation::new(grant.generation.get() + 1);
    assert_eq!(node.report(vec![other]).await, [ReportAck::Fenced]);

    // Joining again grants anew: the old life is fenced, and what it held is gone.
    let again = node.join("n1", 2).await;
    assert_eq!(node.report(vec![report(4)]).await, [ReportAck::Fenced]);
    assert_eq!(node.report(vec![stored(&again, 1)]).await, [applied(1)]);
    let leader = cluster.leader().await;
    let found = node.lookup(leader, &keys(3)).await;
    assert_eq!(found.matches.iter().map(|found| found.blocks).collect::<Vec<_>>(), [1]);
    assert_eq!(found.matches[0].grant, again);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_a_number_before_is_fenced_and_not_refused() {
    let cluster = Cluster::start(|_| {}).await;
    let (one, two) = (cluster.caller(Role::Node, "n1"), cluster.caller(Role::Node, "n2"));
    let before = one.join("n1", 1).await;
    let leave = LeaveRequest { shard: SHARD, node: "n1".parse().unwrap(), incarnation: before.incarnation };
    one.ask::<method::Leave, _>(&leave).await;
    // Once it is swept, the number is the lowest that is free.
    let mut incarnation = 1;
    while two.join("n2", incarnation).await.holder != before.holder {
        incarnation += 1;
    }
    assert_eq!(one.report(vec![stored(&before, 1)]).await, [ReportAck::Fenced]);
    let (holder, generation) = (before.holder, before.generation);
    let groups = [0; Digests::GROUPS];
    let digests = DigestsRequest { shard: SHARD, holder, generation, blocks: 0, groups };
    assert_eq!(one.ask::<method::Digests, _>(&digests).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_many_nodes_share_entries() {
    const NODES: u64 = 12;
    const REPORTS: u64 = 30;
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let mut reporting = Vec::new();
    for number in 1..=NODES {
        let name = format!("n{number}");
        let node = cluster.caller(Role::Node, &name);
        reporting.push(tokio::spawn(async move {
            let grant = node.join(&name, 1).await;
            for number in 1..=REPORTS {
                assert_eq!(node.report(vec![stored(&grant, number)]).await, [ReportAck::Applied { number }]);
            }
        }));
    }
    for reporting in reporting {
        reporting.await.unwrap();
    }
    let reader = cluster.caller(Role::Router, "r1");
    let found = reader.lookup(leader, &keys(REPORTS)).await;
    assert_eq!(found.matches.len() as u64, NODES);
    assert!(found.matches.iter().all(|found| u64::from(found.blocks) == REPORTS));
    let (reports, entries) = (
        cluster.metric(leader, "weft_metadata_reports_total"),
        cluster.metric(leader, "weft_metadata_report_entries_total"),
    );
    assert!(entries < reports, "{reports} reports took {entries} entries");
}
