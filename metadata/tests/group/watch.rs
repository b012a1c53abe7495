//! The watch: a snapshot, then deltas in log order; resumed at any member; told when it ends.

use std::collections::BTreeSet;
use std::ops::Range;

use weft_index::{Change, DirectoryChange, Report};
use weft_metadata_proto::v1::{CutOff, WatchFilter, WatchItem, WatchRequest, WatchScope, method};
use weft_transport::Subscription;
use weft_types::rpc::Message;
use weft_types::{HolderGrant, HolderId, IndexKey, Role};

use crate::cluster::{Caller, Cluster, PATIENCE, SHARD, key, keys, stored};

/// What a follower would know.
#[derive(Default)]
struct Copy {
    index: u64,
    blocks: BTreeSet<(IndexKey, HolderId)>,
    resumed: bool,
    heartbeats: u64,
    /// Of items but heartbeats.
    bytes: usize,
}

async fn open(router: &Caller, member: u64, resume: Option<u64>) -> Subscription<WatchItem> {
    open_filtered(router, member, resume, None).await
}

async fn open_filtered(
    router: &Caller,
    member: u64,
    resume: Option<u64>,
    filter: Option<WatchFilter>,
) -> Subscription<WatchItem> {
    let request = WatchRequest { shard: SHARD, resume, scope: WatchScope::Directory, filter };
    router.fabric().subscribe::<method::Watch>(&router.target(member), &request, PATIENCE).await.unwrap()
}

impl Copy {
    fn take(&mut self, item: WatchItem) -> Option<CutOff> {
        if !matches!(item, WatchItem::Heartbeat { .. }) {
            self.bytes += item.encode().len();
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_one_model_is_told_of_its_holders_only_until_another_belongs_to_it() {
    let cluster = Cluster::start(|_| {}).await;
    let (router, member) = (cluster.caller(Role::Router, "r1"), cluster.leader().await);
    let (n1, n2) = (cluster.caller(Role::Node, "n1"), cluster.caller(Role::Node, "n2"));
    let (g1, g2) = (n1.join("n1", 1).await, n2.join("n2", 1).await);
    let device = n1.put_endpoint("e1", "n1", "wanted").await.remove(0);
    n2.put_endpoint("e2", "n2", "other").await;
    let held = |grant: &HolderGrant, numbers: Range<u64>| {
        numbers.map(|number| (key(number), grant.holder)).collect::<BTreeSet<_>>()
    };
    n1.report(vec![stored(&g1, 1)]).await;
    n2.report(vec![stored(&g2, 1)]).await;

    let filter = |holders: &[&HolderGrant]| {
        let holders = holders.iter().map(|grant| grant.holder).collect();
        Some(WatchFilter { models: ["wanted".to_owned()].into(), holders })
    };
    let (mut all, mut all_watch) = (Copy::default(), open(&router, member, None).await);
    let (mut some, mut watch) = (Copy::default(), open_filtered(&router, member, None, filter(&[])).await);
    // Of every five reports one is of the model, and that is how it goes on the wire.
    for number in 2..=200 {
        let (node, grant) = if number % 5 == 0 { (&n1, &g1) } else { (&n2, &g2) };
        let report = Report {
            number: if number % 5 == 0 { number / 5 + 1 } else { number - number / 5 },
            ..stored(grant, number)
        };
        node.report(vec![report]).await;
    }
    let expected: BTreeSet<_> =
        std::iter::once(1).chain((5..=200).step_by(5)).map(|number| (key(number), g1.holder)).collect();
    all.until(&mut all_watch, |copy| copy.blocks.len() == 201).await;
    some.until(&mut watch, |copy| copy.blocks == expected).await;
    some.until(&mut watch, |copy| copy.index >= all.index && copy.heartbeats > 0).await;
    println!("{} bytes with the filter, {} without", some.bytes, all.bytes);
    assert!(2 * some.bytes < all.bytes, "{} bytes with the filter, {} without", some.bytes, all.bytes);

    // It goes on where it was, at another member, if it says what it has.
    let follower = cluster.follower().await;
    let mut watch = open_filtered(&router, follower, Some(some.index), filter(&[&g1, &device])).await;
    some.until(&mut watch, |copy| copy.resumed).await;
    let (mut none, mut lacking) =
        (Copy::default(), open_filtered(&router, follower, Some(some.index), filter(&[])).await);
    none.until(&mut lacking, |copy| copy.blocks == expected).await;
    assert!(!none.resumed, "what it does not have cannot be told from where it was");

    // An engine of the model at a node whose blocks were left out: the watch begins anew. At one that has none, it goes on.
    let n3 = cluster.caller(Role::Node, "n3");
    let g3 = n3.join("n3", 1).await;
    n3.put_endpoint("e3", "n3", "wanted").await;
    n3.report(vec![stored(&g3, 1)]).await;
    some.until(&mut watch, |copy| copy.blocks.is_superset(&held(&g3, 1..2))).await;
    n2.put_endpoint("e4", "n2", "wanted").await;
    let told = async {
        loop {
            let item = watch.next().await.unwrap().expect("the last item is the reason");
            if let Some(reason) = some.take(item) {
                return reason;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.expect("it was not cut off"), CutOff::Filter);
    let mut watch = open_filtered(&router, follower, None, filter(&[])).await;
    some.until(&mut watch, |copy| copy.blocks.len() == 202).await;
}
