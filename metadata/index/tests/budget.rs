//! A follower's index within its bytes: what was matched least recently leaves first, and what is left is true.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_index::{Change, PrefixIndex};
use weft_types::{HolderId, IndexKey};

const BUDGET: usize = PrefixIndex::BUDGET_MIN;
const BLOCKS: u32 = 64;

fn chain(number: u32) -> Vec<IndexKey> {
    let mut dice = ChaCha8Rng::seed_from_u64(u64::from(number));
    (0..BLOCKS).map(|_| IndexKey::from_bytes(dice.random())).collect()
}

fn store(index: &mut PrefixIndex, holder: u32, keys: &[IndexKey]) {
    let changes: Vec<Change> = keys.iter().copied().map(Change::Stored).collect();
    index.apply_all(HolderId::new(holder), &changes, usize::MAX, |_, _| ());
}

#[test]
fn what_was_matched_lately_stays() {
    let mut index = PrefixIndex::with_budget(BUDGET);
    let favourites: Vec<_> = (0..10).map(chain).collect();
    favourites.iter().for_each(|keys| store(&mut index, 1, keys));
    for number in 10..10_000 {
        index.set_tick(number);
        if number % 100 == 0 {
            favourites.iter().for_each(|keys| assert_eq!(index.leading(keys)[0].blocks, BLOCKS));
        }
        store(&mut index, number % 7, &chain(number));
        assert!(index.stats().bytes <= BUDGET, "{} bytes after chain {number}", index.stats().bytes);
    }
    let stats = index.stats();
    assert_eq!(stats.blocks as u64 + stats.evicted, 10_000 * u64::from(BLOCKS), "every block is here or was counted");
    assert!(stats.evicted > 0 && stats.blocks > 50_000, "{stats:?}");
    assert!(index.leading(&chain(10)).is_empty(), "the oldest that nobody asked for went");
    assert_eq!(index.leading(&chain(9_999))[0].blocks, BLOCKS);
}

#[test]
fn within_any_budget_answers_are_part_of_the_truth() {
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let mut index = PrefixIndex::with_budget(BUDGET);
    let mut held: BTreeMap<IndexKey, BTreeSet<u32>> = BTreeMap::new();
    // Few chains have many holders, so that sets take room too.
    for step in 0..12_000 {
        index.set_tick(step);
        let keys = chain(dice.random_range(0..4_000));
        let (holder, until) = (dice.random_range(0..2_000), dice.random_range(0..keys.len()) + 1);
        if dice.random_bool(0.8) {
            store(&mut index, holder, &keys[..until]);
            keys[..until].iter().for_each(|key| _ = held.entry(*key).or_default().insert(holder));
        } else {
            let changes: Vec<Change> = keys[until - 1..].iter().rev().copied().map(Change::Removed).collect();
            index.apply_all(HolderId::new(holder), &changes, usize::MAX, |_, _| ());
            keys[until - 1..].iter().for_each(|key| _ = held.entry(*key).or_default().remove(&holder));
        }
        assert!(index.stats().bytes <= BUDGET);
    }
    assert!(index.stats().evicted > 0 && !index.is_empty());
    let mut by_holder: BTreeMap<HolderId, u64> = BTreeMap::new();
    for (key, holders) in index.entries() {
        for holder in holders {
            assert!(held[&key].contains(&holder.get()), "{holder} does not hold {key:?}");
            *by_holder.entry(holder).or_default() += 1;
        }
    }
    for holder in (0..2_000).map(HolderId::new) {
        assert_eq!(index.blocks_of(holder), by_holder.get(&holder).copied().unwrap_or(0), "blocks of {holder}");
    }
}
