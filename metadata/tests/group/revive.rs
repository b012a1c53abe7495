//! A group that is lost comes back: from a backup, or from the one member that is left. Nothing from before disturbs it.

use weft_index::ReportAck;
use weft_metadata::{ReviveError, check_backup, recover, restore};
use weft_metadata_proto::v1::{BackupRequest, ChangeMembersRequest, method};
use weft_types::{HolderGrant, MemberId, Role};

use crate::cluster::{Caller, Cluster, SHARD, keys, stored};
use crate::members::{add, change, refusal};

async fn backup(cluster: &Cluster, member: u64) -> Vec<u8> {
    let admin = cluster.caller(Role::Admin, "operator");
    let (fabric, target) = (admin.fabric().clone(), admin.target(member));
    let request = BackupRequest { shard: SHARD };
    let begun = fabric.subscribe::<method::Backup>(&target, &request, crate::cluster::PATIENCE).await;
    let (mut pieces, mut bytes) = (begun.unwrap(), Vec::new());
    while let Some(piece) = pieces.next().await.unwrap() {
        bytes.extend(piece.0);
    }
    bytes
}

/// The new group takes no report of the old one's, and all that nodes report anew; every member has it.
async fn works(cluster: &Cluster, node: &Caller, before: &HolderGrant, next: u64) {
    assert_eq!(node.report(vec![stored(before, next)]).await, [ReportAck::Fenced], "a report from before was taken");
    let grant = node.join("n1", 1).await;
    assert!(grant.generation.get() > before.generation.get() + 60_000, "{grant:?}");
    for number in 1..=20 {
        assert_eq!(node.report(vec![stored(&grant, number)]).await, [ReportAck::Applied { number }]);
    }
    for member in 1..=3 {
        node.wait_for(member, &keys(20)).await;
    }
    cluster.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_backup() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    for number in 1..=20 {
        node.report(vec![stored(&grant, number)]).await;
    }
    let follower = cluster.follower().await;
    node.wait_for(follower, &keys(20)).await;
    let bytes = backup(&cluster, follower).await;
    let file = cluster.data(9).with_extension("backup");
    std::fs::write(&file, &bytes).unwrap();
    let held = check_backup(&file).unwrap();
    assert_eq!((held.blocks, held.members.len()), (20, 3));
    // The group goes on, and then everything is lost.
    for number in 21..=30 {
        node.report(vec![stored(&grant, number)]).await;
    }
    for member in 1..=3 {
        cluster.kill(member).await;
    }
    let refused = restore(&cluster.config(2), &file).unwrap_err();
    assert!(matches!(refused, ReviveError::NotEmpty(_)), "{refused}");
    for member in 1..=3 {
        std::fs::remove_dir_all(cluster.data(member)).unwrap();
    }
    // A backup that rotted is refused, wherever the bit is.
    for at in [3, 20, bytes.len() / 2, bytes.len() - 1] {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1;
        let other = file.with_extension("rotten");
        std::fs::write(&other, rotten).unwrap();
        let refused = restore(&cluster.config(2), &other).unwrap_err();
        assert!(matches!(refused, ReviveError::Backup { .. }), "byte {at}: {refused}");
    }

    restore(&cluster.config(2), &file).unwrap();
    for member in [2, 1, 3] {
        cluster.run(member).await;
    }
    let admin = cluster.caller(Role::Admin, "operator");
    for member in [1, 3] {
        change(&admin, add(&cluster, member), None).await;
    }
    works(&cluster, &node, &grant, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_one_member_that_is_left() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    for number in 1..=30 {
        node.report(vec![stored(&grant, number)]).await;
    }
    node.wait_for(3, &keys(30)).await;
    for member in 1..=3 {
        cluster.kill(member).await;
    }
    std::fs::remove_dir_all(cluster.data(2)).unwrap();
    let recovered = recover(&cluster.config(3)).unwrap();
    assert_eq!(recovered.blocks, 30, "its log was applied to the end");
    assert!(recovered.before.unwrap().join("vote").exists(), "what was before is kept");
    for member in [3, 1, 2] {
        cluster.run(member).await;
    }
    let admin = cluster.caller(Role::Admin, "operator");
    // Member 1 comes back with what it had: the new group does not hear it, and does not take it in.
    let old = ChangeMembersRequest { shard: SHARD, add: add(&cluster, 1), remove: None, force: false };
    let reason = refusal(&cluster, &admin, &old).await;
    assert!(reason.contains("empty data directory"), "{reason}");
    assert_eq!(cluster.leader().await, 3);
    cluster.kill(1).await;
    std::fs::remove_dir_all(cluster.data(1)).unwrap();
    cluster.run(1).await;
    for member in [1, 2] {
        change(&admin, add(&cluster, member), None).await;
    }
    let members = admin.status(3).await.unwrap().members;
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3].map(MemberId::new));
    works(&cluster, &node, &grant, 31).await;
}
