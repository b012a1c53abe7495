//! The leader dies, or everybody does: what was acknowledged is there.

use std::time::Instant;

use weft_index::ReportAck;
use weft_types::Role;

use crate::cluster::{Cluster, keys, stored};

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_report_outlives_the_leader() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    for number in 1..=40 {
        assert_eq!(node.report(vec![stored(&grant, number)]).await, [ReportAck::Applied { number }]);
    }
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let began = Instant::now();
    let next = cluster.leader().await;
    println!("member {next} led a majority {:?} after the leader was killed", began.elapsed());
    for number in 41..=80 {
        assert_eq!(node.report(vec![stored(&grant, number)]).await, [ReportAck::Applied { number }]);
    }
    assert_ne!(cluster.leader().await, leader);
    cluster.run(leader).await;
    for member in 1..=3 {
        node.wait_for(member, &keys(80)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_killed_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    for number in 1..=30 {
        node.report(vec![stored(&grant, number)]).await;
    }
    for member in 1..=3 {
        cluster.kill(member).await;
    }
    for member in 1..=3 {
        cluster.run(member).await;
    }
    // The same holder under the same generation goes on with the next number; an old one is known.
    let acks = node.report(vec![stored(&grant, 30), stored(&grant, 31)]).await;
    assert_eq!(acks, [ReportAck::Applied { number: 30 }, ReportAck::Applied { number: 31 }]);
    for member in 1..=3 {
        node.wait_for(member, &keys(31)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_member_lets_go_of_its_files_and_ports() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    node.report(vec![stored(&grant, 1)]).await;
    for member in [1, 2, 3] {
        cluster.drain(member).await;
        cluster.run(member).await;
        let number = member + 1;
        assert_eq!(node.report(vec![stored(&grant, number)]).await, [ReportAck::Applied { number }]);
    }
    for member in 1..=3 {
        node.wait_for(member, &keys(4)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_alone_answers_from_what_it_knew_to_be_committed() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    for number in 1..=30 {
        node.report(vec![stored(&grant, number)]).await;
    }
    for member in 1..=3 {
        cluster.kill(member).await;
    }
    // No snapshot was written and no leader can be elected: this is its log, applied as far as the log says it may be. It
    // says so of an entry in the batch that follows it, so of the last one perhaps not.
    cluster.run(2).await;
    node.wait_for(2, &keys(28)).await;
    assert_eq!(cluster.metric(2, "weft_metadata_leader"), 0.0);
}
