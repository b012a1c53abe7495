//! The tier against a model that is too simple to be wrong, and its invariants after every step.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::Lru;

const SLOTS: u32 = 6;

fn tier(ready: u32) -> HostTier {
    let mut tier = HostTier::new(SLOTS, Box::new(Lru::new(SLOTS)));
    tier.set_ready(ready);
    tier
}

fn hash(byte: u8) -> BlockHash {
    BlockHash::from_bytes([byte; 32])
}

fn store(tier: &mut HostTier, blocks: &[u8]) -> Vec<SlotRef> {
    blocks
        .iter()
        .map(|byte| {
            let Reservation::Granted(slot) = tier.reserve(&hash(*byte)) else { panic!("no slot for {byte}") };
            tier.commit(slot, Checksum::from_u64(u64::from(*byte))).unwrap();
            slot
        })
        .collect()
}

#[test]
fn a_chain_that_is_used_is_evicted_from_its_end() {
    let mut tier = tier(4);
    store(&mut tier, &[1, 2, 3, 4]);
    let chain = [hash(1), hash(2), hash(3)];
    tier.pin_leading(&chain).iter().for_each(|pinned| tier.unpin(pinned.slot).unwrap());
    store(&mut tier, &[5, 6]);
    let left: Vec<_> = chain.iter().map(|block| tier.contains(block)).collect();
    assert_eq!(left, [true, true, false], "4 was colder than the chain, then the chain lost its end");
}

/// Blocks that are offered, by their byte, with whether they were used.
fn offered(tier: &mut HostTier, max: usize) -> Vec<(u8, bool)> {
    let offers = tier.offers(max);
    offers.iter().for_each(|offer| tier.unpin(offer.pinned.slot).unwrap());
    offers.iter().map(|offer| (offer.candidate.block.as_bytes()[0], offer.candidate.used)).collect()
}

/// Asks for blocks.
fn load(tier: &mut HostTier, blocks: &[u8]) {
    let prefix: Vec<_> = blocks.iter().map(|byte| hash(*byte)).collect();
    tier.pin_leading(&prefix).iter().for_each(|pinned| tier.unpin(pinned.slot).unwrap());
}

#[test]
fn blocks_are_offered_once_they_are_used_and_before_they_make_room() {
    let mut tier = tier(4);
    store(&mut tier, &[1, 2, 3]);
    load(&mut tier, &[2]);
    assert_eq!(offered(&mut tier, 9), [], "there is no tier below");
    tier.make_offers();
    load(&mut tier, &[3, 2]);
    assert_eq!(offered(&mut tier, 9), [(3, true)], "2 was used before anybody wanted to know");
    assert_eq!(offered(&mut tier, 9), []);
    tier.touch(&[hash(1)]);
    tier.touch(&[hash(3), hash(2)]);
    store(&mut tier, &[4]);
    assert_eq!(offered(&mut tier, 0), []);
    assert_eq!(offered(&mut tier, 9), [(1, false)], "no slot is free, 1 goes next, and was put in order only");
    assert_eq!(offered(&mut tier, 9), [], "each once");
    store(&mut tier, &[5]);
    assert_eq!(offered(&mut tier, 9), [(2, true)]);
    assert_eq!(tier.reserve(&hash(4)), Reservation::Present);
    assert_eq!(offered(&mut tier, 9), [(4, true)], "it was to be stored again");
    store(&mut tier, &[6]);
    assert_eq!(offered(&mut tier, 9), [(3, true)]);
    tier.touch(&[hash(3)]);
    store(&mut tier, &[7]);
    assert_eq!(offered(&mut tier, 9), [(5, false)]);
    tier.set_leased([hash(7).index_key()].into_iter().collect::<HashSet<_>>().into());
    tier.review_leases(0..9);
    let offers = tier.offers(9);
    assert!(offers[0].candidate.leased && offers[0].candidate.block == hash(7));
}

#[test]
fn clearing_takes_what_is_complete_and_not_kept_step_by_step() {
    let mut tier = tier(6);
    store(&mut tier, &[1, 2, 3, 4]);
    let read = tier.pin(&hash(3)).unwrap();
    assert!(matches!(tier.reserve(&hash(5)), Reservation::Granted(_)));
    tier.changes().take();
    let keep = |block: &BlockHash| *block == hash(2);
    assert_eq!(tier.clear(0..2, keep), Some(Cleared { removed: 1, kept: 1 }));
    assert_eq!(tier.clear(2..9, keep), Some(Cleared { removed: 2, kept: 0 }), "3 is being read, 5 being written");
    assert_eq!(tier.clear(9..11, keep), None);
    assert_eq!(tier.blocks().collect::<Vec<_>>(), [hash(2)]);
    assert_eq!(tier.held(), Held { complete: 1, reserved: 1, evicting: 1, ..Held::default() });
    tier.unpin(read.slot).unwrap();
    assert_eq!(tier.held().evicting, 0);
    let removed = [1, 3, 4].map(|byte| TierChange::Removed(hash(byte)));
    assert_eq!(tier.changes().take().unwrap(), removed, "whoever reports hears of each");
}

#[test]
fn what_is_leased_is_not_evicted_up_to_half_of_the_tier() {
    let mut tier = tier(6);
    store(&mut tier, &[1, 2]);
    lease(&mut tier, [1, 2, 3, 4, 5]);
    store(&mut tier, &[3, 4, 5, 6]);
    assert_eq!(tier.held().leased, 3, "half of six slots");
    store(&mut tier, &[7, 8, 9]);
    let left: Vec<_> = (1..=9).map(|byte| tier.contains(&hash(byte))).collect();
    assert_eq!(left, [true, true, true, false, false, false, true, true, true], "the other half is anybody's");
    lease(&mut tier, [9]);
    store(&mut tier, &[10]);
    assert!(!tier.contains(&hash(1)) && tier.contains(&hash(9)), "a lease that ended keeps nothing");
}

#[test]
fn slots_that_are_not_ready_are_not_used() {
    let mut tier = tier(1);
    assert!(matches!(tier.reserve(&hash(1)), Reservation::Granted(_)));
    assert_eq!(tier.reserve(&hash(2)), Reservation::Full);
    tier.set_ready(2);
    assert!(matches!(tier.reserve(&hash(2)), Reservation::Granted(_)));
}

#[test]
fn a_block_removed_while_pinned_keeps_its_slot_until_the_last_pin_goes() {
    let mut tier = tier(1);
    store(&mut tier, &[1]);
    let pinned = tier.pin(&hash(1)).unwrap();
    assert!(tier.remove(&hash(1)));
    assert!(!tier.contains(&hash(1)));
    assert_eq!(tier.reserve(&hash(1)), Reservation::Full);
    tier.unpin(pinned.slot).unwrap();
    assert!(matches!(tier.reserve(&hash(1)), Reservation::Granted(_)));
}

#[test]
fn a_slot_of_an_earlier_life_is_refused() {
    let mut tier = tier(1);
    let first = store(&mut tier, &[1])[0];
    store(&mut tier, &[2]);
    assert_eq!(tier.unpin(first), Err(SlotError::Stale(first)));
    assert_eq!(tier.commit(first, Checksum::from_u64(0)), Err(SlotError::Stale(first)));
    let beyond = SlotRef { slot: SlotIndex(99), generation: 1 };
    assert_eq!(tier.abort(beyond), Err(SlotError::Stale(beyond)));
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u8),
    Commit(usize),
    Abort(usize),
    Pin(u8),
    PinLeading(Vec<u8>),
    Unpin(usize),
    Touch(Vec<u8>),
    Remove(u8),
    Ready(u32),
    TakeChanges,
    Lease(BTreeSet<u8>),
}

fn lease(tier: &mut HostTier, blocks: impl IntoIterator<Item = u8>) {
    tier.set_leased(Arc::new(blocks.into_iter().map(|byte| hash(byte).index_key()).collect()));
    // As an arena does it: in steps, and twice.
    for _ in 0..2 {
        assert!(tier.review_leases(0..4) && tier.review_leases(4..8) && !tier.review_leases(8..12));
    }
}

fn step() -> impl Strategy<Value = Step> {
    let block = 0u8..10;
    prop_oneof![
        4 => block.clone().prop_map(Step::Reserve),
        4 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::Abort),
        2 => block.clone().prop_map(Step::Pin),
        2 => prop::collection::vec(block.clone(), 0..5).prop_map(Step::PinLeading),
        4 => any::<usize>().prop_map(Step::Unpin),
        1 => prop::collection::vec(block.clone(), 0..5).prop_map(Step::Touch),
        1 => block.clone().prop_map(Step::Remove),
        1 => (0..=SLOTS).prop_map(Step::Ready),
        1 => Just(Step::TakeChanges),
        1 => prop::collection::btree_set(block, 0..6).prop_map(Step::Lease),
    ]
}

/// What a tier is, without slots, lists or counters.
#[derive(Default)]
struct Model {
    reserved: Vec<(u8, SlotRef)>,
    /// Block → slot and pins.
    complete: BTreeMap<u8, (SlotRef, usize)>,
    /// Removed while pinned.
    evicting: Vec<(SlotRef, usize)>,
    /// Coldest first.
    recency: Vec<u8>,
    /// One entry a pin that is out.
    pins: Vec<SlotRef>,
    ready: u32,
    /// What leases pin.
    wanted: BTreeSet<u8>,
    /// What of it is kept for that.
    leased: BTreeSet<u8>,
    /// What a reader of the change log believes.
    reported: HashSet<BlockHash>,
}

impl Model {
    fn used(&self) -> usize {
        self.reserved.len() + self.complete.len() + self.evicting.len()
    }

    fn touch(&mut self, block: u8) {
        self.recency.retain(|other| *other != block);
        self.recency.push(block);
    }

    fn forget(&mut self, block: u8) {
        let (slot, pins) = self.complete.remove(&block).unwrap();
        self.recency.retain(|other| *other != block);
        self.leased.remove(&block);
        if pins > 0 {
            self.evicting.push((slot, pins));
        }
    }

    fn may_go(&self, block: u8) -> bool {
        self.complete[&block].1 == 0 && !self.leased.contains(&block)
    }

    fn lease_while_there_is_room(&mut self, block: u8) {
        if self.wanted.contains(&block) && self.leased.len() < SLOTS as usize / 2 {
            self.leased.insert(block);
        }
    }

    /// The victim by the letter: blocks that are kept and met on the way become recent.
    fn victim(&mut self) -> Option<u8> {
        if !self.complete.keys().any(|block| self.may_go(*block)) {
            return None;
        }
        loop {
            let oldest = self.recency[0];
            if self.may_go(oldest) {
                return Some(oldest);
            }
            self.touch(oldest);
        }
    }

    fn reserve(&mut self, tier: &mut HostTier, block: u8) {
        let before: HashSet<_> = tier.blocks().collect();
        let got = tier.reserve(&hash(block));
        if self.complete.contains_key(&block) {
            assert_eq!(got, Reservation::Present);
        } else if self.reserved.iter().any(|(other, _)| *other == block) {
            assert_eq!(got, Reservation::Pending);
        } else {
            let victim = if self.used() < self.ready as usize { None } else { Some(self.victim()) };
            if victim == Some(None) {
                assert_eq!(got, Reservation::Full);
                return;
            }
            let Reservation::Granted(slot) = got else { panic!("{got:?}, though there is room") };
            if let Some(Some(victim)) = victim {
                self.forget(victim);
                let after: HashSet<_> = tier.blocks().collect();
                assert_eq!(before.difference(&after).collect::<Vec<_>>(), [&hash(victim)]);
            }
            self.reserved.push((block, slot));
        }
    }

    fn pin(&mut self, block: u8, got: Option<Pinned>) {
        let Some((slot, pins)) = self.complete.get_mut(&block) else {
            assert_eq!(got, None);
            return;
        };
        assert_eq!(got, Some(Pinned { slot: *slot, checksum: Checksum::from_u64(u64::from(block)) }));
        *pins += 1;
        self.pins.push(*slot);
    }

    fn unpin(&mut self, slot: SlotRef) {
        if let Some((_, pins)) = self.complete.values_mut().find(|(other, _)| *other == slot) {
            *pins -= 1;
            return;
        }
        let position = self.evicting.iter().position(|(other, _)| *other == slot).unwrap();
        self.evicting[position].1 -= 1;
        if self.evicting[position].1 == 0 {
            self.evicting.remove(position);
        }
    }

    fn apply(&mut self, tier: &mut HostTier, step: Step) {
        match step {
            Step::Reserve(block) => self.reserve(tier, block),
            Step::Commit(pick) if !self.reserved.is_empty() => {
                let (block, slot) = self.reserved.remove(pick % self.reserved.len());
                tier.commit(slot, Checksum::from_u64(u64::from(block))).unwrap();
                assert_eq!(tier.commit(slot, Checksum::from_u64(0)), Err(SlotError::NotReserved(slot)));
                self.complete.insert(block, (slot, 0));
                self.lease_while_there_is_room(block);
                self.touch(block);
            }
            Step::Abort(pick) if !self.reserved.is_empty() => {
                let (_, slot) = self.reserved.remove(pick % self.reserved.len());
                tier.abort(slot).unwrap();
            }
            Step::Pin(block) => self.pin(block, tier.pin(&hash(block))),
            Step::PinLeading(blocks) => {
                let got = tier.pin_leading(&blocks.iter().map(|block| hash(*block)).collect::<Vec<_>>());
                let run: Vec<_> = blocks.into_iter().take_while(|block| self.complete.contains_key(block)).collect();
                assert_eq!(got.len(), run.len());
                run.iter().zip(got).for_each(|(block, pinned)| self.pin(*block, Some(pinned)));
                run.iter().rev().for_each(|block| self.touch(*block));
            }
            Step::Unpin(pick) if !self.pins.is_empty() => {
                let slot = self.pins.swap_remove(pick % self.pins.len());
                tier.unpin(slot).unwrap();
                self.unpin(slot);
            }
            Step::Touch(blocks) => {
                tier.touch(&blocks.iter().map(|block| hash(*block)).collect::<Vec<_>>());
                let here: Vec<_> = blocks.into_iter().filter(|block| self.complete.contains_key(block)).collect();
                here.into_iter().rev().for_each(|block| self.touch(block));
            }
            Step::Remove(block) => {
                assert_eq!(tier.remove(&hash(block)), self.complete.contains_key(&block));
                if self.complete.contains_key(&block) {
                    self.forget(block);
                }
            }
            Step::Ready(slots) => {
                tier.set_ready(slots);
                self.ready = self.ready.max(slots);
            }
            Step::TakeChanges => self.take_changes(tier),
            Step::Lease(blocks) => {
                lease(tier, blocks.iter().copied());
                self.leased.retain(|block| blocks.contains(block));
                self.wanted = blocks;
                let mut by_slot: Vec<_> = self.complete.iter().map(|(block, (slot, _))| (slot.slot, *block)).collect();
                by_slot.sort();
                by_slot.into_iter().for_each(|(_, block)| self.lease_while_there_is_room(block));
            }
            Step::Commit(_) | Step::Abort(_) | Step::Unpin(_) => {}
        }
    }

    fn take_changes(&mut self, tier: &mut HostTier) {
        match tier.changes().take() {
            None => self.reported = tier.blocks().collect(),
            Some(changes) => changes.into_iter().for_each(|change| match change {
                TierChange::Stored(block) => assert!(self.reported.insert(block), "stored twice"),
                TierChange::Removed(block) => assert!(self.reported.remove(&block), "removed without being stored"),
            }),
        }
        let complete: HashSet<_> = self.complete.keys().map(|block| hash(*block)).collect();
        assert_eq!(self.reported, complete, "the log leads to what is held");
    }

    fn check(&self, tier: &HostTier) {
        let found: HashSet<_> = tier.blocks().collect();
        assert_eq!(found, self.complete.keys().map(|block| hash(*block)).collect());
        found.iter().for_each(|block| assert!(tier.contains(block)));
        let pinned = self.complete.values().filter(|(_, pins)| *pins > 0).count();
        let held = Held {
            complete: self.complete.len(),
            pinned,
            leased: self.leased.len(),
            reserved: self.reserved.len(),
            evicting: self.evicting.len(),
            evicted: tier.held().evicted,
        };
        assert_eq!(tier.held(), held);
        let slots: HashSet<_> = (self.reserved.iter().map(|(_, slot)| slot.slot))
            .chain(self.complete.values().map(|(slot, _)| slot.slot))
            .chain(self.evicting.iter().map(|(slot, _)| slot.slot))
            .collect();
        assert_eq!(slots.len(), self.used(), "no slot is in two states");
        let free: HashSet<_> = tier.free.iter().copied().collect();
        assert_eq!(free.len(), tier.free.len(), "no slot is free twice");
        assert!(free.is_disjoint(&slots), "no slot is both free and used");
        assert_eq!(free.len() + slots.len(), tier.fresh as usize, "no slot is lost");
    }
}

proptest! {
    #[test]
    fn the_tier_does_what_its_model_does(steps in prop::collection::vec(step(), 0..200)) {
        let mut tier = tier(0);
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut tier, step);
            model.check(&tier);
        }
        model.take_changes(&mut tier);
    }
}
