//! The follower: its copy is the directory, whatever happens to its watch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use weft_index::{Change, Report, ReportForm};
use weft_metadata_client::Follower;
use weft_metadata_state::{Command, Outcome};
use weft_types::{HolderGrant, HolderId, Incarnation, IndexKey, LogTime, NodeId, Role};

use crate::service::{Group, SOON, metrics, node};

const AT: LogTime = LogTime::ZERO;
const KEYS: u32 = 1_000;

fn key(number: u32) -> IndexKey {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_le_bytes());
    IndexKey::from_bytes(bytes)
}

/// Nodes that join, report and go at random, from a seed.
struct Traffic {
    random: ChaCha8Rng,
    granted: Vec<(HolderGrant, u64)>,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), granted: Vec::new() }
    }

    fn below(&mut self, end: u32) -> u32 {
        self.random.next_u32() % end
    }

    fn run(&mut self, group: &Group, commands: usize) {
        for _ in 0..commands {
            match self.below(20) {
                0 | 1 => self.join(group),
                2 => {
                    let (node, incarnation) = (self.name(), Incarnation::new(1));
                    group.apply(Command::Expire { at: AT, node, incarnation });
                }
                // Numbers must come back soon: that is when a follower could mistake one life for another.
                3 | 4 => {
                    group.apply(Command::Sweep { at: AT, budget: 20_000 });
                }
                _ => self.report(group),
            }
        }
    }

    fn name(&mut self) -> NodeId {
        format!("n{}", self.below(6)).parse().unwrap()
    }

    fn join(&mut self, group: &Group) {
        let name = self.name();
        if let Outcome::Granted(grants) = group.apply(Command::Join { at: AT, node: node(name.name().as_str(), 1) }) {
            self.granted.extend(grants.into_iter().map(|grant| (grant, 0)));
        }
    }

    fn report(&mut self, group: &Group) {
        if self.granted.is_empty() {
            return self.join(group);
        }
        let recent = self.granted.len().min(6) as u32;
        let at = self.granted.len() - 1 - self.below(recent) as usize;
        let changes = (0..self.below(200)).map(|_| match (self.below(4), key(self.below(KEYS))) {
            (0, key) => Change::Removed(key),
            (_, key) => Change::Stored(key),
        });
        let changes = changes.collect();
        let (grant, number) = &mut self.granted[at];
        *number += 1;
        let HolderGrant { holder, generation, incarnation, .. } = *grant;
        let report = Report { holder, generation, incarnation, number: *number, form: ReportForm::default(), changes };
        group.apply(Command::Reports { at: AT, reports: vec![report] });
    }
}

/// Waits until the follower is where the directory is, and compares everything.
async fn assert_same(follower: &Follower, group: &Group) {
    let (index, directory) = group.directory();
    tokio::time::timeout(SOON, follower.reached(index)).await.expect("the follower catches up");
    assert_eq!(follower.log_index(), Some(index));
    assert_eq!(*follower.roster(), *directory.roster());
    assert_eq!(*follower.roster_changes().borrow().clone(), *directory.roster());
    for number in 0..KEYS {
        let prefix = [key(number), key((number * 7) % KEYS)];
        let (matches, roster) = follower.lookup(&prefix);
        assert_eq!(matches, directory.leading(&prefix), "block {number}");
        assert!(matches.iter().all(|found| roster.holders.contains_key(&found.holder)));
    }
}

async fn warm(group: &Group, members: &[usize]) -> (Follower, crate::service::Counters) {
    let (metrics, counters) = metrics();
    let follower = group.client(Role::Router, members).follow(None, metrics);
    tokio::time::timeout(SOON, follower.warm()).await.expect("a first snapshot");
    (follower, counters)
}

#[tokio::test]
async fn a_follower_is_the_directory_from_its_snapshot_on() {
    for seed in 0..3 {
        let group = Group::start(1);
        let mut traffic = Traffic::new(seed);
        traffic.run(&group, 200);
        let (follower, counters) = warm(&group, &[0]).await;
        for _ in 0..8 {
            traffic.run(&group, 60);
            assert_same(&follower, &group).await;
        }
        assert_eq!(counters.snapshots(), 1);
    }
}

#[tokio::test]
async fn a_follower_of_a_member_that_dies_goes_on_at_another() {
    let group = Group::start(3);
    let mut traffic = Traffic::new(7);
    traffic.run(&group, 100);
    let (follower, counters) = warm(&group, &[0, 1, 2]).await;
    group.members[0].close().await;
    group.lead(Some(1));
    traffic.run(&group, 100);
    assert_same(&follower, &group).await;
    assert_eq!((counters.snapshots(), counters.ends("broken")), (1, 1), "it was resumed where it had stopped");
}

#[tokio::test]
async fn a_follower_that_lags_is_cut_off_and_starts_over() {
    let group = Group::start(1);
    let mut traffic = Traffic::new(8);
    traffic.run(&group, 50);
    let (follower, counters) = warm(&group, &[0]).await;
    group.keep(10);
    group.shared().knobs.send_modify(|knobs| knobs.changes_held = true);
    traffic.run(&group, 50);
    group.shared().knobs.send_modify(|knobs| knobs.changes_held = false);
    assert_same(&follower, &group).await;
    assert_eq!((counters.snapshots(), counters.ends("lagged")), (2, 1));
}

#[tokio::test]
async fn lookups_are_answered_while_a_new_snapshot_comes_in() {
    let group = Group::start(1);
    let mut traffic = Traffic::new(9);
    traffic.run(&group, 100);
    let (follower, counters) = warm(&group, &[0]).await;
    let (before, old) = group.directory();
    tokio::time::timeout(SOON, follower.reached(before)).await.unwrap();

    // Cut off, and with a second snapshot that does not end yet.
    group.keep(0);
    group.shared().knobs.send_modify(|knobs| (knobs.changes_held, knobs.snapshots_held) = (true, true));
    traffic.run(&group, 100);
    let mut watching = group.shared().watching.subscribe();
    group.shared().knobs.send_modify(|knobs| knobs.changes_held = false);
    watching.wait_for(|watches| *watches == 0).await.unwrap();
    watching.wait_for(|watches| *watches == 1).await.unwrap();
    for number in 0..KEYS {
        assert_eq!(follower.leading(&[key(number)]), old.leading(&[key(number)]), "block {number}");
    }
    assert_eq!((follower.log_index(), counters.snapshots()), (Some(before), 1));

    group.shared().knobs.send_modify(|knobs| knobs.snapshots_held = false);
    assert_same(&follower, &group).await;
    assert_eq!(counters.snapshots(), 2);
}

#[tokio::test]
async fn a_member_that_says_what_cannot_be_is_left_and_a_snapshot_taken() {
    let group = Group::start(1);
    let mut traffic = Traffic::new(10);
    traffic.run(&group, 50);
    let (follower, counters) = warm(&group, &[0]).await;
    let (incarnation, generation) = (Incarnation::new(1), weft_types::Generation::new(1));
    let holder = HolderId::new(9_999);
    group.tell(weft_index::DirectoryChange::Blocks(Report {
        holder,
        generation,
        incarnation,
        number: 1,
        form: ReportForm::default(),
        changes: vec![Change::Stored(key(1))],
    }));
    assert_same(&follower, &group).await;
    assert_eq!((counters.snapshots(), counters.ends("fault")), (2, 1));
}

#[tokio::test]
async fn a_dropped_follower_ends_its_watch() {
    let group = Group::start(1);
    let (follower, _) = warm(&group, &[0]).await;
    let clone = follower.clone();
    drop(follower);
    let mut watching = group.shared().watching.subscribe();
    assert_eq!(*watching.borrow_and_update(), 1, "a clone is left");
    drop(clone);
    watching.wait_for(|watches| *watches == 0).await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_tells_of_what_changed_nothing() {
    let group = Group::start(1);
    let (follower, _) = warm(&group, &[0]).await;
    group.apply(Command::Sweep { at: AT, budget: 1 });
    assert_same(&follower, &group).await;
}

#[tokio::test]
async fn a_follower_of_some_models_starts_over_when_a_holder_becomes_theirs() {
    let group = Group::start(1);
    let mut traffic = Traffic::new(11);
    traffic.run(&group, 50);
    let (metrics, counters) = metrics();
    let models = ["sim-8b".to_owned()].into();
    let follower = group.client(Role::Router, &[0]).follow_models(models, None, metrics);
    tokio::time::timeout(SOON, follower.warm()).await.expect("a first snapshot");
    group.shared().knobs.send_modify(|knobs| knobs.filter_outgrown = true);
    traffic.run(&group, 50);
    let outgrown = group.shared().knobs.subscribe().wait_for(|knobs| !knobs.filter_outgrown).await.map(drop);
    outgrown.expect("the watch asked for some models");
    traffic.run(&group, 50);
    assert_same(&follower, &group).await;
    assert_eq!((counters.snapshots(), counters.ends("filter")), (2, 1), "a resumption would lack the holder's blocks");
}
