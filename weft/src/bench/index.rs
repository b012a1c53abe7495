//! The prefix index: changes applied, and longest-prefix lookups over all holders in one walk.
//!
//! Two limits in the same run: a plain `hashbrown` map with the same keys, which answers less (one holder a key, no
//! prefixes), and one dependent load from memory, below which no lookup of a key can go.

use std::hint::black_box;

use hashbrown::HashMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use weft_index::{Change, PrefixIndex};
use weft_types::{HolderId, IndexKey};

use super::form::Bar;
use super::limits;
use super::measure::Effort;
use super::{Measured, params};

/// Blocks in one prefix: 8,192 tokens.
const PREFIX_BLOCKS: usize = 128;
/// Nodes that hold each block.
const HOLDERS: u32 = 2;

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let prefixes = effort.scaled(20_000);
    let keys = keys(prefixes * PREFIX_BLOCKS);
    let (index, apply_s) = fill_index(&keys);
    let (map, insert_s) = fill_map(&keys);
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let mut any_prefix = || {
        let number = dice.random_range(0..prefixes);
        &keys[number * PREFIX_BLOCKS..][..PREFIX_BLOCKS]
    };
    let lookups = effort.rate(|| {
        black_box(index.leading(black_box(any_prefix())));
        1
    });
    let gets = effort.rate(|| {
        for key in any_prefix() {
            black_box(map.get(black_box(key)));
        }
        1
    });
    let map_bytes = map.allocation_size();
    let latency = limits::memory_latency(effort, map_bytes.max(64 << 20));
    let (block_ns, get_ns) = (1e9 / lookups / PREFIX_BLOCKS as f64, 1e9 / gets / PREFIX_BLOCKS as f64);
    let changes = keys.len() as f64 * f64::from(HOLDERS);
    let bars = vec![
        Bar::value("apply", changes / apply_s, "changes/s").against(changes / insert_s),
        Bar::value("lookup", lookups, "prefixes/s").against(gets),
        Bar::value("lookup_block_vs_map", block_ns, "ns").against(get_ns).at_most(2.0),
        Bar::value("lookup_block_vs_memory", block_ns, "ns").against(latency * 1e9),
    ];
    Ok(Measured {
        params: params(json!({"blocks": keys.len(), "holders_a_block": HOLDERS, "prefix_blocks": PREFIX_BLOCKS})),
        bars,
    })
}

fn keys(count: usize) -> Vec<IndexKey> {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    (0..count).map(|_| IndexKey::from_bytes(dice.random())).collect()
}

/// The index with every key held by each holder, and the seconds it took.
fn fill_index(keys: &[IndexKey]) -> (PrefixIndex, f64) {
    let began = std::time::Instant::now();
    let mut index = PrefixIndex::new();
    for holder in (0..HOLDERS).map(HolderId::new) {
        for key in keys {
            index.apply(holder, Change::Stored(*key));
        }
    }
    (index, began.elapsed().as_secs_f64())
}

/// A plain map with as many insertions, and the seconds it took.
fn fill_map(keys: &[IndexKey]) -> (HashMap<IndexKey, u32>, f64) {
    let began = std::time::Instant::now();
    let mut map = HashMap::new();
    for holder in 0..HOLDERS {
        for key in keys {
            map.insert(*key, holder);
        }
    }
    (map, began.elapsed().as_secs_f64())
}
