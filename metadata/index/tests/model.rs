//! The index against the plainest model of it: a map of sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weft_index::{Change, Match, PrefixIndex};
use weft_types::{HolderId, IndexKey};

#[derive(Default)]
struct Model {
    held: BTreeMap<IndexKey, BTreeSet<HolderId>>,
    retired: BTreeSet<HolderId>,
}

impl Model {
    fn apply(&mut self, holder: HolderId, change: Change) -> bool {
        if self.retired.contains(&holder) {
            return false;
        }
        match change {
            Change::Stored(key) => self.held.entry(key).or_default().insert(holder),
            Change::Removed(key) => {
                let Some(holders) = self.held.get_mut(&key) else { return false };
                let removed = holders.remove(&holder);
                if holders.is_empty() {
                    self.held.remove(&key);
                }
                removed
            }
        }
    }

    fn sweep(&mut self) -> Vec<HolderId> {
        for holders in self.held.values_mut() {
            holders.retain(|holder| !self.retired.contains(holder));
        }
        self.held.retain(|_, holders| !holders.is_empty());
        std::mem::take(&mut self.retired).into_iter().collect()
    }

    fn holds(&self, holder: HolderId, key: &IndexKey) -> bool {
        !self.retired.contains(&holder) && self.held.get(key).is_some_and(|holders| holders.contains(&holder))
    }

    fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        let holders: BTreeSet<HolderId> = self.held.values().flatten().copied().collect();
        let count = |holder| prefix.iter().take_while(|key| self.holds(holder, key)).count() as u32;
        let mut matches: Vec<Match> = holders
            .into_iter()
            .map(|holder| Match { holder, blocks: count(holder) })
            .filter(|m| m.blocks > 0)
            .collect();
        matches.sort_by_key(|found| (std::cmp::Reverse(found.blocks), found.holder));
        matches
    }
}

#[derive(Clone, Debug)]
enum Op {
    Apply(HolderId, Change),
    Retire(HolderId),
    Sweep,
}

/// Few keys, in partitions of their own and together in one, so that sets grow large and tables collide.
fn key(number: u8) -> IndexKey {
    let mut bytes = [0; 16];
    bytes[15] = number;
    if number.is_multiple_of(2) {
        bytes[..2].copy_from_slice(&(u16::from(number) << 5).to_be_bytes());
    }
    IndexKey::from_bytes(bytes)
}

const KEYS: u8 = 24;

fn any_holder() -> impl Strategy<Value = HolderId> {
    // Small numbers often; some past one and past many words of bits.
    prop_oneof![4 => 0u32..6, 2 => 60u32..70, 1 => 0u32..300, 1 => Just(PrefixIndex::HOLDERS_MAX - 1)]
        .prop_map(HolderId::new)
}

fn any_op() -> impl Strategy<Value = Op> {
    let stored = (any_holder(), 0..KEYS).prop_map(|(holder, n)| Op::Apply(holder, Change::Stored(key(n))));
    let removed = (any_holder(), 0..KEYS).prop_map(|(holder, n)| Op::Apply(holder, Change::Removed(key(n))));
    prop_oneof![60 => stored, 15 => removed, 3 => any_holder().prop_map(Op::Retire), 2 => Just(Op::Sweep)]
}

fn any_prefix() -> impl Strategy<Value = Vec<IndexKey>> {
    prop::collection::vec((0..KEYS).prop_map(key), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_index_answers_as_the_model(
        ops in prop::collection::vec(any_op(), 0..600),
        prefixes in prop::collection::vec(any_prefix(), 1..20),
    ) {
        let (mut index, mut model) = (PrefixIndex::new(), Model::default());
        for op in ops {
            match op {
                Op::Apply(holder, change) => prop_assert_eq!(index.apply(holder, change), model.apply(holder, change)),
                Op::Retire(holder) => {
                    index.retire(holder);
                    model.retired.insert(holder);
                    prop_assert_eq!(index.blocks_of(holder), 0);
                }
                Op::Sweep => prop_assert_eq!(index.sweep(usize::MAX), model.sweep()),
            }
        }
        for prefix in prefixes {
            prop_assert_eq!(index.leading(&prefix), model.leading(&prefix));
        }
        let entries: Vec<(IndexKey, BTreeSet<HolderId>)> =
            index.entries().map(|(key, holders)| (key, holders.iter().collect())).collect();
        prop_assert_eq!(index.len(), entries.len());
        prop_assert_eq!(entries, model.held.clone().into_iter().collect::<Vec<_>>());
        for (key, holders) in index.blocks() {
            prop_assert!(holders.iter().all(|holder| model.holds(holder, &key)));
        }
        let live = model.held.values().filter(|holders| !holders.is_subset(&model.retired)).count();
        prop_assert_eq!(index.blocks().count(), live);
        for number in 0..300 {
            let holder = HolderId::new(number);
            let blocks = (0..KEYS).filter(|n| model.holds(holder, &key(*n))).count() as u64;
            prop_assert_eq!(index.blocks_of(holder), blocks);
        }
    }

    #[test]
    fn a_clone_is_a_snapshot(
        before in prop::collection::vec((any_holder(), 0..KEYS), 0..100),
        after in prop::collection::vec((any_holder(), 0..KEYS, any::<bool>()), 0..100),
    ) {
        let mut index = PrefixIndex::new();
        for (holder, n) in before {
            index.apply(holder, Change::Stored(key(n)));
        }
        let list = |index: &PrefixIndex| -> Vec<(IndexKey, Vec<HolderId>)> {
            index.entries().map(|(key, holders)| (key, holders.iter().collect())).collect()
        };
        let (snapshot, at_snapshot) = (index.clone(), list(&index));
        for (holder, n, stored) in after {
            index.apply(holder, if stored { Change::Stored(key(n)) } else { Change::Removed(key(n)) });
        }
        index.retire(HolderId::new(0));
        index.sweep(usize::MAX);
        prop_assert_eq!(list(&snapshot), at_snapshot);
    }
}

fn spread(number: u64) -> IndexKey {
    // A uniform key, as block hashes give: splitmix64, twice.
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number + 1).to_le_bytes());
    bytes[8..].copy_from_slice(&mix(number ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
    IndexKey::from_bytes(bytes)
}

#[test]
fn a_sweep_is_bounded_and_frees_a_number_only_when_nothing_of_it_is_left() {
    let (old, new) = (HolderId::new(0), HolderId::new(1));
    let mut index = PrefixIndex::new();
    for number in 0..20_000 {
        index.apply(old, Change::Stored(spread(number)));
        if number % 2 == 0 {
            index.apply(new, Change::Stored(spread(number)));
        }
    }
    index.retire(old);
    assert_eq!(index.leading(&[spread(0)]), [Match { holder: new, blocks: 1 }]);
    assert_eq!(index.leading(&[spread(1)]), []);
    assert!(!index.apply(old, Change::Stored(spread(1))), "a number that is not swept takes nothing");

    let mut steps = 0;
    let mut len = index.len();
    loop {
        let swept = index.sweep(1_000);
        steps += 1;
        assert!(len - index.len() <= 1_100, "a step of 1,000 keys removed {}", len - index.len());
        len = index.len();
        if swept == [old] {
            break;
        }
        assert!(swept.is_empty() && index.retired().eq([old]));
    }
    assert!(steps > 15, "20,000 keys went in {steps} steps of 1,000");
    assert_eq!((index.len(), index.blocks_of(new), index.retired().count()), (10_000, 10_000, 0));
    assert!(index.entries().all(|(_, holders)| holders.iter().eq([new])));
    assert!(index.apply(old, Change::Stored(spread(1))), "a swept number is as new");
    assert_eq!(index.blocks_of(old), 1);
}

#[test]
fn a_hole_ends_a_holder_and_nobody_else() {
    let prefix: Vec<IndexKey> = (0..8).map(spread).collect();
    let mut index = PrefixIndex::new();
    let holders: Vec<HolderId> = (0..200).map(HolderId::new).collect();
    for (number, holder) in holders.iter().enumerate() {
        for (depth, key) in prefix.iter().enumerate() {
            // Holder n lacks block n % 9 and no other: those with n % 9 == 8 hold all.
            if depth != number % 9 {
                index.apply(*holder, Change::Stored(*key));
            }
        }
    }
    let matches = index.leading(&prefix);
    assert_eq!(
        matches.len(),
        holders.len() - holders.len().div_ceil(9),
        "those that lack the first block hold no prefix"
    );
    for found in matches {
        assert_eq!(found.blocks, found.holder.get() % 9);
    }
}
