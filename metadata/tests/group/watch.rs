//! The watch: a snapshot, then deltas in log order; resumed at any member; told when it ends.

use std::collections::BTreeSet;

use weft_index::{Change, DirectoryChange};
use weft_metadata_proto::v1::{CutOff, WatchItem, WatchRequest, WatchScope, method};
use weft_transport::Subscription;
use weft_types::{HolderId, IndexKey, Role};

use crate::cluster::{Caller, Cluster, PATIENCE, SHARD, keys, stored};

/// What a follower would know.
#[derive(Default)]
struct Copy {
    index: u64,
    blocks: BTreeSet<(IndexKey, HolderId)>,
    resumed: bool,
    heartbeats: u64,
}

async fn open(router: &Caller, member: u64, resume: Option<u64>) -> Subscription<WatchItem> {
    let request = WatchRequest { shard: SHARD, resume, scope: WatchScope::Directory };
    router.fabric().subscribe::<method::Watch>(&router.target(member), &request, PATIENCE).await.unwrap()
}

impl Copy {
    fn take(&mut self, item: WatchItem) -> Option<CutOff> {
        match item {
            WatchItem::SnapshotBegin { index, .. } => (self.index, self.blocks) = (index, BTreeSet::new()),
            WatchItem::SnapshotBlocks(list) => {
                for run in list.runs() {
                    let pairs = run.keys.iter().flat_map(|key| run.holders.iter().map(|holder| (*key, *holder)));
                    self.blocks.extend(pairs);
                }
            }
            WatchItem::SnapshotEnd | WatchItem::SnapshotAccounts(_) => {}
            WatchItem::Changes { index, changes } => {
                assert!(index > self.index, "{index} came after {}", self.index);
                self.index = index;
                for change in changes {
                    let DirectoryChange::Blocks(report) = change else { continue };
                    for change in report.changes {
                        match change {
                            Change::Stored(key) => self.blocks.insert((key, report.holder)),
                            Change::Removed(key) => self.blocks.remove(&(key, report.holder)),
                        };
                    }
                }
            }
            WatchItem::Heartbeat { index, .. } => {
                assert!(index >= self.index);
                self.index = index;
                self.heartbeats += 1;
            }
            WatchItem::CutOff(reason) => return Some(reason),
            WatchItem::Resumed => self.resumed = true,
        }
        None
    }

    /// Takes items until `done`.
    async fn until(&mut self, watch: &mut Subscription<WatchItem>, done: impl Fn(&Self) -> bool) {
        let taking = async {
            while !done(self) {
                let item = watch.next().await.unwrap().expect("the watch goes on");
                assert_eq!(self.take(item), None);
            }
        };
        tokio::time::timeout(PATIENCE, taking).await.expect("the watch never told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_has_the_directory_and_may_resume_elsewhere() {
    let mut cluster = Cluster::start(|_| {}).await;
    let (node, router) = (cluster.caller(Role::Node, "n1"), cluster.caller(Role::Router, "r1"));
    let grant = node.join("n1", 1).await;
    let expected = |count| keys(count).into_iter().map(|key| (key, grant.holder)).collect::<BTreeSet<_>>();
    for number in 1..=10 {
        node.report(vec![stored(&grant, number)]).await;
    }
    let follower = cluster.follower().await;
    node.wait_for(follower, &keys(10)).await;

    let mut copy = Copy::default();
    let mut watch = open(&router, follower, None).await;
    copy.until(&mut watch, |copy| copy.blocks == expected(10)).await;
    for number in 11..=20 {
        node.report(vec![stored(&grant, number)]).await;
    }
    copy.until(&mut watch, |copy| copy.blocks == expected(20)).await;
    copy.until(&mut watch, |copy| copy.heartbeats > 0).await;

    // The member goes; the watcher hears so, and goes on at another from where it was.
    let draining = cluster.drain(follower);
    let told = async {
        loop {
            let item = watch.next().await.unwrap().expect("the last item is the reason");
            if let Some(reason) = copy.take(item) {
                return reason;
            }
        }
    };
    let (reason, ()) = tokio::join!(told, draining);
    assert_eq!(reason, CutOff::Closing);
    for number in 21..=30 {
        node.report(vec![stored(&grant, number)]).await;
    }
    let mut watch = open(&router, cluster.leader().await, Some(copy.index)).await;
    copy.until(&mut watch, |copy| copy.blocks == expected(30)).await;
    assert!(copy.resumed, "changes that are kept were sent again as a snapshot");

    // One that wants to resume from before what is kept gets a snapshot: a member that restarted keeps nothing older.
    cluster.run(follower).await;
    node.wait_for(follower, &keys(30)).await;
    let (mut late, mut watch) = (Copy::default(), open(&router, cluster.leader().await, None).await);
    late.until(&mut watch, |copy| copy.blocks == expected(30)).await;
    assert!(!late.resumed);
}
