//! A member that was away catches up: by the log while it is kept, else by a snapshot.

use weft_types::Role;

use crate::cluster::{Cluster, keys, stored};

#[tokio::test(flavor = "multi_thread")]
async fn by_the_log() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    node.report(vec![stored(&grant, 1)]).await;
    let away = cluster.follower().await;
    cluster.kill(away).await;
    for number in 2..=60 {
        node.report(vec![stored(&grant, number)]).await;
    }
    cluster.run(away).await;
    node.wait_for(away, &keys(60)).await;
    assert_eq!(cluster.metric(away, "weft_metadata_snapshots_installed_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_snapshot_and_then_the_log() {
    let mut cluster = Cluster::start(|config| {
        config.snapshot.entries = 20;
        config.snapshot.keep = 2;
    })
    .await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    node.report(vec![stored(&grant, 1)]).await;
    let away = cluster.follower().await;
    cluster.kill(away).await;
    for number in 2..=150 {
        node.report(vec![stored(&grant, number)]).await;
    }
    cluster.run(away).await;
    node.wait_for(away, &keys(150)).await;
    assert!(cluster.metric(away, "weft_metadata_snapshots_installed_total") >= 1.0);

    // What it took over is on its disk: killed again, alone in its knowledge, it still has it.
    node.report(vec![stored(&grant, 151)]).await;
    for member in 1..=3 {
        cluster.kill(member).await;
    }
    cluster.run(away).await;
    node.wait_for(away, &keys(100)).await;
    for member in (1..=3).filter(|member| *member != away) {
        cluster.run(member).await;
    }
    node.wait_for(away, &keys(151)).await;
}
