//! A member that was away catches up: by the log while it is kept, else by a snapshot.

use weft_metadata::{BindError, Metadata, StoreError};
use weft_service::telemetry::Telemetry;
use weft_types::{ByteSize, Role};

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
        config.snapshot.keep = ByteSize::from_bytes(200);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_begins_behind_a_snapshot_is_refused_without_it() {
    let mut cluster = Cluster::start(|config| {
        config.snapshot.entries = 20;
        config.snapshot.keep = ByteSize::from_bytes(200);
    })
    .await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    let member = cluster.leader().await;
    let mut number = 0;
    while cluster.metric(member, "weft_metadata_snapshots_total") < 2.0 {
        number += 1;
        node.report(vec![stored(&grant, number)]).await;
    }
    cluster.drain(member).await;
    let files = std::fs::read_dir(cluster.data(member)).unwrap().map(|file| file.unwrap().path());
    let snapshot = files.into_iter().find(|file| file.file_name().unwrap().to_str().unwrap().starts_with("snapshot-"));
    std::fs::remove_file(snapshot.expect("one was written")).unwrap();
    match Metadata::bind(cluster.config(member), &Telemetry::for_tests()).await {
        Err(BindError::Store(error @ StoreError::Missing { .. })) => {
            assert!(error.to_string().contains("When a member refuses to start"), "{error}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}
