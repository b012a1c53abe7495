//! The index against the plainest model of it: a map of sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_index::{Builder, Change, Duplicate, Effect, Match, PrefixIndex, Run};
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
    Report(HolderId, Vec<Change>),
    Retire(HolderId),
    Sweep,
    SweepSome(usize),
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
    let run = (0..KEYS, 1..KEYS, any::<bool>(), any::<bool>());
    let report = (any_holder(), run).prop_map(|(holder, (from, count, stored, backwards))| {
        let change = |n: u8| if stored { Change::Stored(key(n % KEYS)) } else { Change::Removed(key(n % KEYS)) };
        let mut changes: Vec<Change> = (from..from + count).map(change).collect();
        if backwards {
            changes.reverse();
        }
        Op::Report(holder, changes)
    });
    prop_oneof![
        60 => stored,
        15 => removed,
        12 => report,
        3 => any_holder().prop_map(Op::Retire),
        1 => Just(Op::Sweep),
        1 => (1usize..5_000).prop_map(Op::SweepSome),
    ]
}

fn any_prefix() -> impl Strategy<Value = Vec<IndexKey>> {
    prop::collection::vec((0..KEYS).prop_map(key), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_index_answers_as_the_model(
        ops in prop::collection::vec(any_op(), 0..400),
        prefixes in prop::collection::vec(any_prefix(), 1..20),
    ) {
        let (mut index, mut model) = (PrefixIndex::new(), Model::default());
        for op in ops {
            step(&mut index, &mut model, op)?;
        }
        for prefix in prefixes {
            prop_assert_eq!(index.leading(&prefix), model.leading(&prefix));
        }
        let entries: Vec<(IndexKey, BTreeSet<HolderId>)> =
            index.entries().map(|(key, holders)| (key, holders.into_iter().collect())).collect();
        prop_assert_eq!(index.len(), entries.len());
        prop_assert_eq!(entries, model.held.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(held(index.runs()), model.held.clone());
        for number in 0..300 {
            let holder = HolderId::new(number);
            let blocks = (0..KEYS).filter(|n| model.holds(holder, &key(*n))).count() as u64;
            prop_assert_eq!(index.blocks_of(holder), blocks);
        }
    }

    #[test]
    fn a_frozen_index_is_the_index_as_it_was(
        ops in prop::collection::vec(any_op(), 0..400),
        freezes in prop::collection::vec((0usize..400, 0usize..400), 1..6),
    ) {
        let (mut index, mut model) = (PrefixIndex::new(), Model::default());
        let mut frozen = Vec::new();
        for (at, op) in ops.into_iter().enumerate() {
            // Some are walked at once, others in the midst of what follows, or after it.
            for (_, until) in freezes.iter().filter(|(from, _)| *from == at) {
                frozen.push((*until, index.freeze(), model.held.clone()));
            }
            while let Some(done) = frozen.iter().position(|(until, ..)| *until <= at) {
                let (_, frozen, expected) = frozen.swap_remove(done);
                prop_assert_eq!(frozen.len(), expected.len());
                prop_assert_eq!(held(frozen), expected);
            }
            step(&mut index, &mut model, op)?;
        }
        for (_, frozen, expected) in frozen {
            prop_assert_eq!(held(frozen), expected);
        }
    }

    #[test]
    fn an_index_loaded_from_runs_is_the_same_and_goes_on_the_same(
        before in prop::collection::vec(any_op(), 0..300),
        after in prop::collection::vec(any_op(), 0..100),
        built_room in 0_usize..100,
    ) {
        let (mut index, mut model) = (PrefixIndex::new(), Model::default());
        for op in before {
            step(&mut index, &mut model, op)?;
        }
        let mut loaded = PrefixIndex::with_room(index.len());
        let mut builder = Builder::with_room(built_room);
        for run in index.runs() {
            prop_assert_eq!(loaded.load(&run.holders, &run.keys), run.keys.len());
            prop_assert_eq!(builder.run(&run.holders, &run.keys), Ok(()));
        }
        let built = builder.finish().unwrap();
        prop_assert!(index.entries().eq(built.entries()));
        prop_assert_eq!((built.len(), held(built.runs())), (index.len(), model.held.clone()));
        for number in (0..300).map(HolderId::new).filter(|holder| !model.retired.contains(holder)) {
            prop_assert_eq!(built.blocks_of(number), index.blocks_of(number));
        }
        if after.len() % 2 == 0 {
            loaded = built;
        }
        index.retired().for_each(|holder| loaded.retire(holder));
        prop_assert!(loaded.resume_sweep(index.sweep_position()));
        let mut other = Model { held: model.held.clone(), retired: model.retired.clone() };
        for op in after {
            if let Op::SweepSome(budget) = op {
                prop_assert_eq!(index.sweep(budget), loaded.sweep(budget), "the steps of a sweep are the same");
                prop_assert_eq!(held(index.runs()), held(loaded.runs()));
                model.held = held(index.runs());
                model.retired = index.retired().collect();
                other = Model { held: model.held.clone(), retired: model.retired.clone() };
                continue;
            }
            step(&mut index, &mut model, op.clone())?;
            step(&mut loaded, &mut other, op)?;
        }
        prop_assert!(index.entries().eq(loaded.entries()));
    }
}

/// Applies to both and compares what they say.
fn step(index: &mut PrefixIndex, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::Apply(holder, change) => prop_assert_eq!(index.apply(holder, change), model.apply(holder, change)),
        Op::Report(holder, changes) => {
            let mut effects = Vec::new();
            index.apply_all(holder, &changes, usize::MAX, |_, effect| effects.push(effect != Effect::None));
            let expected: Vec<bool> = changes.iter().map(|change| model.apply(holder, *change)).collect();
            prop_assert_eq!(effects, expected);
        }
        Op::Retire(holder) => {
            index.retire(holder);
            model.retired.insert(holder);
            prop_assert_eq!(index.blocks_of(holder), 0);
        }
        Op::Sweep => prop_assert_eq!(index.sweep(usize::MAX), model.sweep()),
        Op::SweepSome(budget) => {
            let was_retired = model.retired.clone();
            for holder in index.sweep(budget) {
                model.retired.remove(&holder);
            }
            // What went is what retired holders had, and all of it of those that are free now.
            let left = held(index.runs());
            for (key, holders) in &model.held {
                let none = BTreeSet::new();
                let left = left.get(key).unwrap_or(&none);
                prop_assert!(
                    left.is_subset(holders) && holders.difference(left).all(|holder| was_retired.contains(holder))
                );
            }
            model.held = left;
        }
    }
    Ok(())
}

fn held(runs: impl Iterator<Item = Run>) -> BTreeMap<IndexKey, BTreeSet<HolderId>> {
    runs.flat_map(|run| {
        let holders: BTreeSet<HolderId> = run.holders.into_iter().collect();
        run.keys.into_iter().map(move |key| (key, holders.clone()))
    })
    .collect()
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
    assert!(index.entries().all(|(_, holders)| holders == [new]));
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

#[test]
fn long_prompts_that_were_stored_in_pieces_are_found_whole() {
    const BLOCKS: usize = 300;
    let chains: Vec<Vec<IndexKey>> =
        (0..40).map(|chain| (0..BLOCKS as u64).map(|at| spread(chain << 32 | at)).collect()).collect();
    let (mut index, mut model) = (PrefixIndex::new(), Model::default());
    let mut dice = ChaCha8Rng::seed_from_u64(5);
    for step in 0..3_000 {
        let (chain, holder) = (&chains[dice.random_range(0..chains.len())], HolderId::new(dice.random_range(0..80)));
        let from = dice.random_range(0..BLOCKS);
        let until = (from + dice.random_range(1..60)).min(BLOCKS);
        let keys = chain[from..until].iter().copied();
        let changes: Vec<Change> = match dice.random_range(0..4) {
            0..3 => keys.map(Change::Stored).collect(),
            _ => keys.rev().map(Change::Removed).collect(),
        };
        index.apply_all(holder, &changes, usize::MAX, |_, _| ());
        changes.iter().for_each(|change| _ = model.apply(holder, *change));
        if step % 20 == 0 {
            // Of another chain from somewhere on, so that what comes is not where it is looked for.
            let turn = dice.random_range(0..BLOCKS);
            let other = &chains[dice.random_range(0..chains.len())];
            let prefix: Vec<IndexKey> = chain[..turn].iter().chain(&other[turn..]).copied().collect();
            assert_eq!(index.leading(&prefix), model.leading(&prefix), "after step {step}");
            assert_eq!(index.leading(&chain[from..]), model.leading(&chain[from..]), "after step {step}");
        }
    }
}

#[test]
fn a_block_that_is_listed_twice_is_refused_wherever_it_comes() {
    let keys: Vec<IndexKey> = (0..1_000).map(spread).collect();
    for again in [0, 1, 500, 999] {
        let mut builder = Builder::with_room(0);
        builder.run(&[HolderId::new(1)], &keys).unwrap();
        let outcome = builder.run(&[HolderId::new(2)], &keys[again..=again]).and_then(|()| builder.finish().map(drop));
        assert_eq!(outcome, Err(Duplicate(keys[again])));
    }
}
