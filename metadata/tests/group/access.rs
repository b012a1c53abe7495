//! Who may do what, and what a member refuses to start with.

use weft_metadata::{BindError, Metadata, StoreError};
use weft_metadata_proto::v1::{JoinRequest, LookupRequest, OperateRequest, Reply, ReportRequest, method};
use weft_service::certs::serial_of;
use weft_service::telemetry::Telemetry;
use weft_transport::{CallError, RefusalCode};
use weft_types::rpc::Method;
use weft_types::{Operated, OperatorAction, RequestId, Role, Serial, ShardId};

use crate::cluster::{Caller, Cluster, SHARD, key, node, stored};

/// Raft's first procedure, as a stranger would call it.
enum Append {}

impl Method for Append {
    const ID: u16 = 1;
    const NAME: &'static str = "raft_append_entries";
    type Request = ();
    type Response = ();
}

/// Raft's second procedure: data directory meant, the candidate's group, (term, member, known to lead), last log id.
#[derive(serde::Serialize, serde::Deserialize)]
struct Candidacy(u64, u64, (u64, u64, bool), Option<(u64, u64, u64)>);

enum Vote {}

weft_types::control_message!(Candidacy);

impl Method for Vote {
    const ID: u16 = 2;
    const NAME: &'static str = "raft_vote";
    type Request = Candidacy;
    type Response = ();
}

async fn refused<M: Method>(caller: &Caller, member: u64, request: &M::Request) -> RefusalCode
where
    M::Response: std::fmt::Debug,
{
    match caller.call::<M>(member, request).await {
        Err(CallError::Refused { refusal, .. }) => refusal.code,
        other => panic!("{}: expected a refusal, got {other:?}", M::NAME),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_what_one_may_do() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let (one, two) = (cluster.caller(Role::Node, "n1"), cluster.caller(Role::Node, "n2"));
    let router = cluster.caller(Role::Router, "r1");
    let join = |name| JoinRequest { shard: SHARD, node: node(name, 1) };

    assert_eq!(refused::<method::Join>(&router, leader, &join("n1")).await, RefusalCode::Forbidden);
    assert_eq!(refused::<method::Join>(&two, leader, &join("n1")).await, RefusalCode::Forbidden);
    let (grant, _) = (one.join("n1", 1).await, two.join("n2", 1).await);
    let report = ReportRequest { shard: SHARD, reports: vec![stored(&grant, 1)] };
    assert_eq!(refused::<method::Report>(&two, leader, &report).await, RefusalCode::Forbidden);
    for stranger in [&one, &router] {
        assert_eq!(refused::<Append>(stranger, leader, &()).await, RefusalCode::Forbidden);
    }
    let elsewhere = LookupRequest { shard: ShardId::new(1), prefix: vec![key(1)] };
    assert_eq!(refused::<method::Lookup>(&one, leader, &elsewhere).await, RefusalCode::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_speaks_for_itself_only() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let stranger = cluster.caller(Role::Metadata, "9");
    let claim = Candidacy(cluster.disk(leader), cluster.group(leader), (u64::MAX, 2, false), None);
    assert_eq!(refused::<Vote>(&stranger, leader, &claim).await, RefusalCode::Forbidden);
    let status = cluster.caller(Role::Admin, "observer").status(leader).await.unwrap();
    assert!(status.term < u64::MAX, "the claim was heard: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_says_where_the_leader_is() {
    let cluster = Cluster::start(|_| {}).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let one = cluster.caller(Role::Node, "n1");
    let request = JoinRequest { shard: SHARD, node: node("n1", 1) };
    let Reply::NotLeader { leader: Some(addr) } = one.call::<method::Join>(follower, &request).await.unwrap() else {
        panic!("a follower joined a node, or knows no leader");
    };
    assert_eq!(addr, one.target(leader).addr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_refuses_a_certificate_once_the_group_has_revoked_it() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let (stolen, pem) = cluster.caller_with_certificate(Role::Node, "n1");
    let other = cluster.caller(Role::Node, "n2");
    let lookup = LookupRequest { shard: SHARD, prefix: vec![key(1)] };
    for member in 1..=3 {
        stolen.call::<method::Lookup>(member, &lookup).await.unwrap();
    }
    let serial = Serial::from_bytes(&serial_of(&pem).unwrap()).unwrap();
    let admin = cluster.caller(Role::Admin, "operator");
    let operate = |number, action| OperateRequest { shard: SHARD, request: RequestId::new(number), action };
    let revoke = OperatorAction::Revoke { serial: serial.clone(), reason: "stolen".to_owned() };
    let begun = admin.ask::<method::Operate, _>(&operate(1, revoke)).await;
    assert_eq!(begun, Operated::Done);
    // The leader has applied it: it has to cut the connection by itself, the others as they apply it.
    for member in [leader, 1, 2, 3] {
        cluster
            .wait_until(member, |cluster| {
                cluster.labelled(member, "weft_transport_refused_peers_total", "revoked") >= 1.0
            })
            .await;
        let refused = stolen.call::<method::Lookup>(member, &lookup).await.unwrap_err();
        assert!(refused.to_string().contains("revoked"), "{refused}");
        other.call::<method::Lookup>(member, &lookup).await.unwrap();
    }
    admin.ask::<method::Operate, _>(&operate(2, OperatorAction::Reinstate { serial })).await;
    let leader = cluster.leader().await;
    stolen.call::<method::Lookup>(leader, &lookup).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_member_is_refused() {
    let cluster = Cluster::prepare(|_| {});
    let first = Metadata::bind(cluster.config(1), &Telemetry::for_tests()).await.unwrap();
    first.drain(std::time::Duration::from_secs(10)).await;
    let mut config = cluster.config(2);
    config.data = cluster.data(1);
    match Metadata::bind(config, &Telemetry::for_tests()).await {
        Err(BindError::Store(StoreError::Foreign { found, expected, .. })) => {
            assert!(found.starts_with("test 1 "), "{found}");
            assert_eq!(expected, "test 2");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_member_is_refused() {
    let cluster = Cluster::prepare(|_| {});
    let mut config = cluster.config(1);
    config.identity = cluster.config(2).identity;
    let error = Metadata::bind(config, &Telemetry::for_tests()).await.unwrap_err();
    assert!(error.to_string().contains("needs one of metadata/1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_disk_neither_votes_nor_follows_until_it_is_taken_in_anew() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    let grant = node.join("n1", 1).await;
    node.report(vec![stored(&grant, 1)]).await;
    let (leader, emptied) = (cluster.leader().await, cluster.follower().await);
    let before = cluster.disk(emptied);
    cluster.kill(emptied).await;
    std::fs::remove_dir_all(cluster.data(emptied)).unwrap();
    cluster.run(emptied).await;

    // Whatever a candidate of the group asks is meant for the directory that is gone.
    let candidate = (1..=3).find(|member| ![leader, emptied].contains(member)).unwrap();
    let asks = cluster.caller(Role::Metadata, &candidate.to_string());
    let claim = Candidacy(before, cluster.group(leader), (1000, candidate, false), Some((1000, candidate, 1000)));
    assert_eq!(refused::<Vote>(&asks, emptied, &claim).await, RefusalCode::Forbidden);
    let status = cluster.caller(Role::Admin, "observer").status(emptied).await.unwrap();
    assert_eq!((status.term, status.last_log), (0, 0), "it took part: {status:?}");

    // The others go on.
    node.report(vec![stored(&grant, 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_formed_by_all_its_members_or_not_at_all() {
    let mut cluster = Cluster::prepare(|_| {});
    cluster.run(1).await;
    cluster.run(2).await;
    let admin = cluster.caller(Role::Admin, "observer");
    cluster.wait_until_it_waits(1).await;
    for member in [1, 2] {
        assert_eq!(admin.status(member).await.unwrap().term, 0, "a majority is not all of a new group");
    }
    cluster.run(3).await;
    cluster.leader().await;
}
