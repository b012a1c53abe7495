//! The tier against what it was told, over a device that fails: whatever comes back is right, and what was synced and not
//! faulted comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use weft_types::BlockHash;

use super::device::{Faults, FaultyDevice};
use super::tests::{append, hash, open, read};
use super::{DiskTier, DiskWriter};
use crate::TierChange;

const BLOCKS: u8 = 40;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Read(u8),
    Remove(u8),
    Sync,
    Seal,
    /// The process is killed: what it wrote is there.
    Kill,
    /// The power goes: what was not synced is there in part.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(0..BLOCKS, 1..6).prop_map(Step::Append),
        6 => (0..BLOCKS).prop_map(Step::Read),
        1 => (0..BLOCKS).prop_map(Step::Remove),
        2 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => Just(Step::Kill),
        1 => Just(Step::Crash),
    ]
}

struct World {
    device: Arc<FaultyDevice>,
    tier: Arc<DiskTier>,
    writer: DiskWriter,
    /// What the changes say is held.
    held: BTreeSet<BlockHash>,
    /// What has to come back after a crash.
    synced: BTreeSet<BlockHash>,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let device = Arc::new(FaultyDevice::new(seed, faults));
        let (tier, writer) = open(&device, 5);
        Self { device, tier, writer, held: BTreeSet::new(), synced: BTreeSet::new() }
    }

    fn reopen(&mut self) {
        (self.tier, self.writer) = open(&self.device, 5);
        self.held.clear();
        self.take_changes();
    }

    fn take_changes(&mut self) {
        for change in self.tier.take_changes().unwrap() {
            match change {
                TierChange::Stored(block) => assert!(self.held.insert(block), "stored twice"),
                TierChange::Removed(block) => assert!(self.held.remove(&block), "removed without being stored"),
            }
        }
        self.synced.retain(|block| self.held.contains(block));
    }

    /// Returns whether the device did its part.
    fn apply(&mut self, step: Step) -> bool {
        let done = match step {
            Step::Append(numbers) => append(&mut self.writer, &numbers).is_ok(),
            Step::Read(number) => {
                let contained = self.tier.contains(&hash(number));
                read(&self.tier, number).is_some() == contained
            }
            Step::Remove(number) => {
                self.tier.remove(&hash(number));
                true
            }
            Step::Sync | Step::Seal => {
                let done = if matches!(step, Step::Sync) { self.writer.sync() } else { self.writer.seal() };
                self.take_changes();
                if done.is_ok() {
                    self.synced = self.held.clone();
                }
                done.is_ok()
            }
            Step::Kill => {
                let before = self.held.clone();
                self.reopen();
                before.is_subset(&self.held)
            }
            Step::Crash => {
                let synced = self.synced.clone();
                self.device.crash();
                self.reopen();
                self.synced = synced.clone();
                synced.is_subset(&self.held)
            }
        };
        self.take_changes();
        done
    }

    fn read_all(&self) -> BTreeSet<BlockHash> {
        (0..BLOCKS).filter(|number| read(&self.tier, *number).is_some()).map(hash).collect()
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    let rate = || prop_oneof![3 => Just(0), 1 => 1..60_u32, 1 => 100..500_u32];
    (rate(), rate(), rate(), rate(), rate(), rate()).prop_map(|(lost, misdirected, flipped, failed, torn, full)| {
        Faults { lost, misdirected, flipped, failed, torn, full }
    })
}

proptest! {
    #[test]
    fn what_was_synced_comes_back_whole(seed: u64, steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new(seed, Faults::default());
        for step in steps {
            prop_assert!(world.apply(step.clone()), "after {:?}", step);
        }
        prop_assert_eq!(&world.read_all(), &world.held, "the index says what can be read");
        prop_assert_eq!(world.tier.stats().corrupt_blocks, 0);
    }

    #[test]
    fn whatever_a_failing_device_does_no_wrong_byte_comes_back(
        seed: u64,
        faults in faults(),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(seed, faults);
        for step in steps {
            // Reading compares every byte.
            world.apply(step);
        }
        world.read_all();
        world.device.set_faults(Faults::default());
        world.reopen();
        let before = world.read_all();
        world.reopen();
        prop_assert!(world.read_all().is_superset(&before), "what a sound device gave once it gives again");
    }
}
