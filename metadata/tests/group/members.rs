//! Members come, go, are replaced and hand over, while reports go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_index::ReportAck;
use weft_metadata_proto::v1::{ChangeMembersRequest, MembersChange, NewMember, Reply, TransferLeaderRequest, method};
use weft_transport::CallError;
use weft_types::{MemberId, Role};

use crate::cluster::{Caller, Cluster, SHARD, keys, stored};

/// Reports that go on until told to stop; each is acknowledged before the next.
struct Load {
    node: Caller,
    stop: Arc<AtomicBool>,
    acknowledged: watch::Receiver<u64>,
    running: JoinHandle<Duration>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Self {
        let node = cluster.caller(Role::Node, "n1");
        let grant = node.join("n1", 1).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, acknowledged) = watch::channel(0);
        let running = tokio::spawn({
            let (node, grant, stop) = (node.clone(), grant, stop.clone());
            async move {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let (number, began) = (*tell.borrow() + 1, Instant::now());
                    let acks = node.report(vec![stored(&grant, number)]).await;
                    assert_eq!(acks, [ReportAck::Applied { number }]);
                    tell.send_replace(number);
                    longest = longest.max(began.elapsed());
                }
                longest
            }
        });
        Self { node, stop, acknowledged, running }
    }

    /// Waits for so many more.
    async fn goes_on(&self, count: u64) {
        let mut acknowledged = self.acknowledged.clone();
        let until = *acknowledged.borrow() + count;
        let reached = acknowledged.wait_for(|number| *number >= until).await;
        assert!(reached.is_ok(), "reports failed");
    }

    /// Stops, and looks for all that was acknowledged at every member. Returns the longest wait for an acknowledgement.
    async fn finish(self, members: &[u64]) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let longest = self.running.await.unwrap();
        let count = *self.acknowledged.borrow();
        for member in members {
            self.node.wait_for(*member, &keys(count)).await;
        }
        longest
    }
}

pub(crate) fn add(cluster: &Cluster, id: u64) -> Option<NewMember> {
    Some(NewMember { id: MemberId::new(id), addr: cluster.addr(id), voter: true })
}

/// Asks until the change is made; who votes then.
pub(crate) async fn change(admin: &Caller, add: Option<NewMember>, remove: Option<u64>) -> Vec<u64> {
    let request = ChangeMembersRequest { shard: SHARD, add, remove: remove.map(MemberId::new), force: false };
    loop {
        match admin.ask::<method::ChangeMembers, _>(&request).await {
            MembersChange::Done { members } => {
                return members.iter().filter(|member| member.voter).map(|member| member.id.get()).collect();
            }
            // Nothing here writes so many; a group that was revived begins at an index that is far beyond.
            MembersChange::CatchingUp { behind } => assert!(behind < 100_000, "{behind} entries to go"),
            MembersChange::Silent { .. } => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn refusal(cluster: &Cluster, admin: &Caller, request: &ChangeMembersRequest) -> String {
    let leader = cluster.leader().await;
    loop {
        match admin.call::<method::ChangeMembers>(leader, request).await {
            Ok(Reply::Refused(reason)) => return reason,
            // A connection to a process that is gone takes a while to be given up.
            Ok(Reply::Done(MembersChange::Silent { .. })) => {}
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_comes_and_one_goes_under_load() {
    let mut cluster = Cluster::start(|_| {}).await;
    let load = Load::start(&cluster).await;
    load.goes_on(20).await;
    cluster.run(4).await;
    let admin = cluster.caller(Role::Admin, "operator");
    assert_eq!(change(&admin, add(&cluster, 4), None).await, [1, 2, 3, 4]);
    load.goes_on(20).await;
    // The leader itself: it hands over first.
    let leader = cluster.leader().await;
    let voters = change(&admin, None, Some(leader)).await;
    assert_eq!(voters, [1, 2, 3, 4].into_iter().filter(|id| *id != leader).collect::<Vec<_>>());
    cluster.drain(leader).await;
    load.goes_on(20).await;
    load.finish(&voters).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_disk_is_gone_is_replaced_under_load() {
    let mut cluster = Cluster::start(|_| {}).await;
    let load = Load::start(&cluster).await;
    load.goes_on(20).await;
    let lost = cluster.follower().await;
    cluster.kill(lost).await;
    std::fs::remove_dir_all(cluster.data(lost)).unwrap();
    cluster.run(4).await;
    let admin = cluster.caller(Role::Admin, "operator");
    let voters = change(&admin, add(&cluster, 4), Some(lost)).await;
    assert_eq!(voters, (1..=4).filter(|id| *id != lost).collect::<Vec<_>>());
    load.goes_on(20).await;

    // And the old one, under its old id, is a new member once it was taken out.
    cluster.run(lost).await;
    assert_eq!(change(&admin, add(&cluster, lost), None).await, [1, 2, 3, 4]);
    load.goes_on(20).await;
    load.finish(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_taken_out_comes_back_with_what_it_has() {
    let cluster = Cluster::start(|_| {}).await;
    let load = Load::start(&cluster).await;
    load.goes_on(20).await;
    let admin = cluster.caller(Role::Admin, "operator");
    let follower = cluster.follower().await;
    assert_eq!(change(&admin, None, Some(follower)).await.len(), 2);
    load.goes_on(20).await;
    let before = cluster.disk(follower);
    assert_eq!(change(&admin, add(&cluster, follower), None).await, [1, 2, 3]);
    load.goes_on(20).await;
    load.finish(&[1, 2, 3]).await;
    assert_eq!(cluster.disk(follower), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_harm_is_refused() {
    let mut cluster = Cluster::start(|_| {}).await;
    let node = cluster.caller(Role::Node, "n1");
    node.join("n1", 1).await;
    let admin = cluster.caller(Role::Admin, "operator");
    let request = |add, remove: Option<u64>| ChangeMembersRequest {
        shard: SHARD,
        add,
        remove: remove.map(MemberId::new),
        force: false,
    };
    let nobody = admin.ask::<method::ChangeMembers, _>(&request(add(&cluster, 4), None)).await;
    assert_eq!(nobody, MembersChange::Silent { id: MemberId::new(4) });
    let (leader, dead) = (cluster.leader().await, cluster.follower().await);
    let other = (1..=3).find(|id| ![leader, dead].contains(id)).unwrap();
    cluster.kill(dead).await;
    let reason = refusal(&cluster, &admin, &request(None, Some(other))).await;
    assert!(reason.contains("no majority"), "of those who would stay, one is dead: {reason}");
    // One that lost its directory has forgotten what it promised under this id.
    std::fs::remove_dir_all(cluster.data(dead)).unwrap();
    cluster.run(dead).await;
    let reason = refusal(&cluster, &admin, &request(add(&cluster, dead), None)).await;
    assert!(reason.contains("`weft metadata remove"), "{reason}");
    match cluster.caller(Role::Router, "r1").call::<method::ChangeMembers>(leader, &request(None, None)).await {
        Err(CallError::Refused { .. }) => {}
        other => panic!("a router changed the group: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_without_an_election_timeout() {
    let cluster = Cluster::start(|config| {
        // An election would take far longer than anybody here has patience for.
        config.raft.election_min = Duration::from_secs(40);
        config.raft.election_max = Duration::from_secs(80);
    })
    .await;
    let load = Load::start(&cluster).await;
    let admin = cluster.caller(Role::Admin, "operator");
    for to in [2, 3, 1, 2] {
        load.goes_on(10).await;
        let request = TransferLeaderRequest { shard: SHARD, to: Some(MemberId::new(to)) };
        let leader = admin.ask::<method::TransferLeader, _>(&request).await;
        assert_eq!(leader.get(), to);
    }
    load.goes_on(10).await;
    let longest = load.finish(&[1, 2, 3]).await;
    println!("longest wait for an acknowledgement over four hand-overs: {longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_drained_hands_over_first() {
    let mut cluster = Cluster::start(|config| {
        config.raft.election_min = Duration::from_secs(40);
        config.raft.election_max = Duration::from_secs(80);
    })
    .await;
    let load = Load::start(&cluster).await;
    load.goes_on(10).await;
    let leader = cluster.leader().await;
    cluster.drain(leader).await;
    load.goes_on(10).await;
    assert_ne!(cluster.leader().await, leader);
    load.finish(&[]).await;
}
