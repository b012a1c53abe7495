//! The prefix index: changes applied, and longest-prefix lookups over all holders in one walk.
//!
//! Two limits in the same run: a plain `hashbrown` map with the same keys, which answers less (one holder a key, no
//! prefixes), and one dependent load from memory, below which no lookup of a key can go. With `--peers`, the indexes of other
//! routers besides: see [`peers`].

mod peers;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use hashbrown::HashMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use weft_index::{Change, IndexReader, PrefixIndex};
use weft_types::{HolderId, IndexKey};

use super::form::{Bar, Outcome};
use super::latencies::Latencies;
use super::limits;
use super::measure::Effort;
use super::{FormArgs, Measured, params, plot, print};

/// Arguments of `weft bench index`.
#[derive(Debug, clap::Args)]
pub(crate) struct IndexArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Beside the published indexes of other routers, which are built first: takes a checkout of weft, cargo, and some minutes.
    #[arg(long)]
    peers: bool,
    /// Blocks in the index; 100 million take 3 GiB.
    #[arg(long, default_value_t = BLOCKS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    blocks: usize,
}

/// Blocks unless others are asked for.
const BLOCKS: usize = 2_560_000;
/// Blocks in one prefix: 8,192 tokens.
const PREFIX_BLOCKS: usize = 128;
/// Nodes that hold each block.
const HOLDERS: u32 = 2;
/// Most blocks of the plain map: it answers nothing that more of them would tell.
const MAP_BLOCKS_MAX: usize = 4_000_000;

pub(crate) async fn run(args: IndexArgs) -> anyhow::Result<()> {
    let IndexArgs { form, peers, blocks } = args;
    let effort = Effort { quick: form.quick };
    let measured = super::on_a_thread(move || {
        let mut measured = measure_blocks(effort, blocks)?;
        if peers {
            measured.bars.extend(peers::measure(effort)?);
        }
        Ok(measured)
    });
    let outcome = Outcome::new("index", measured.await?);
    if let Some(path) = &form.plot {
        plot::bars(&outcome, path)?;
    }
    print(&outcome, form.json)
}

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    measure_blocks(effort, effort.scaled(BLOCKS))
}

fn measure_blocks(effort: Effort, blocks: usize) -> anyhow::Result<Measured> {
    let prefixes = (blocks / PREFIX_BLOCKS).max(1);
    let (mut index, apply_s) = fill_index(prefixes);
    let stats = index.stats();
    let mapped = prefixes.min(MAP_BLOCKS_MAX / PREFIX_BLOCKS);
    let (map, insert_s) = fill_map(mapped);
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let mut any_of = |prefixes: usize| prefix(dice.random_range(0..prefixes));
    let lookups = effort.rate(|| {
        black_box(index.leading(black_box(&any_of(prefixes))));
        1
    });
    let gets = effort.rate(|| {
        for key in any_of(mapped) {
            black_box(map.get(black_box(&key)));
        }
        1
    });
    let latency = limits::memory_latency(effort, map.allocation_size().max(64 << 20));
    let quiet = times(effort, &index.reader(), prefixes);
    let busy = beside_the_writer(effort, &mut index, prefixes);
    let (block_ns, get_ns) = (1e9 / lookups / PREFIX_BLOCKS as f64, 1e9 / gets / PREFIX_BLOCKS as f64);
    let changes = (prefixes * PREFIX_BLOCKS) as f64 * f64::from(HOLDERS);
    let map_changes = (mapped * PREFIX_BLOCKS) as f64 * f64::from(HOLDERS);
    let us = |times: &Latencies, share| times.quantile(share) * 1e6;
    let bars = vec![
        Bar::value("apply", changes / apply_s, "changes/s").against(map_changes / insert_s),
        Bar::value("lookup", lookups, "prefixes/s").against(gets),
        Bar::value("lookup_block_vs_map", block_ns, "ns").against(get_ns).at_most(2.0),
        Bar::value("lookup_block_vs_memory", block_ns, "ns").against(latency * 1e9),
        Bar::value("lookup_p50", us(&quiet, 0.5), "us"),
        Bar::value("lookup_p99", us(&quiet, 0.99), "us"),
        Bar::value("p50_beside_writer", us(&busy, 0.5), "us").against(us(&quiet, 0.5)).at_most(1.5),
        Bar::value("p99_beside_writer", us(&busy, 0.99), "us").against(us(&quiet, 0.99)).at_most(1.5),
        Bar::value("bytes_a_block", stats.bytes as f64 / stats.blocks as f64, "bytes"),
    ];
    Ok(Measured {
        params: params(json!({
            "blocks": prefixes * PREFIX_BLOCKS, "holders_a_block": HOLDERS, "prefix_blocks": PREFIX_BLOCKS,
        })),
        bars,
    })
}

/// A key that is as even as a hash: made again whenever it is wanted, so that a hundred million need no memory.
fn key(prefix: usize, at: usize) -> IndexKey {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let number = (prefix * PREFIX_BLOCKS + at) as u64;
    let mut bytes = [0; IndexKey::LEN];
    bytes[..8].copy_from_slice(&mix(number + 1).to_be_bytes());
    bytes[8..].copy_from_slice(&mix(!number).to_be_bytes());
    IndexKey::from_bytes(bytes)
}

fn prefix(number: usize) -> Vec<IndexKey> {
    (0..PREFIX_BLOCKS).map(|at| key(number, at)).collect()
}

/// The index with every prefix held by each holder, reported as it was computed, and the seconds it took.
fn fill_index(prefixes: usize) -> (PrefixIndex, f64) {
    let (mut index, mut applying) = (PrefixIndex::new(), 0.0);
    for number in 0..prefixes {
        let changes: Vec<Change> = prefix(number).into_iter().map(Change::Stored).collect();
        let began = Instant::now();
        for holder in (0..HOLDERS).map(HolderId::new) {
            index.apply_all(holder, &changes, usize::MAX, |_, _| ());
        }
        applying += began.elapsed().as_secs_f64();
    }
    (index, applying)
}

/// A plain map with as many insertions, and the seconds it took.
fn fill_map(prefixes: usize) -> (HashMap<IndexKey, u32>, f64) {
    let (mut map, mut inserting) = (HashMap::new(), 0.0);
    for keys in (0..prefixes).map(prefix) {
        let began = Instant::now();
        for holder in 0..HOLDERS {
            keys.iter().for_each(|key| _ = map.insert(*key, holder));
        }
        inserting += began.elapsed().as_secs_f64();
    }
    (map, inserting)
}

/// Times of lookups, one by one.
fn times(effort: Effort, reader: &IndexReader, prefixes: usize) -> Latencies {
    let (mut dice, mut latencies) = (ChaCha8Rng::seed_from_u64(3), Latencies::default());
    let until = Instant::now() + Effort::ROUNDS as u32 * effort.round();
    while Instant::now() < until {
        let prefix = prefix(dice.random_range(0..prefixes));
        let began = Instant::now();
        black_box(reader.leading(black_box(&prefix)));
        latencies.add(began.elapsed());
    }
    latencies
}

/// The same while the writer stores and removes as fast as it can.
fn beside_the_writer(effort: Effort, index: &mut PrefixIndex, prefixes: usize) -> Latencies {
    let (reader, done) = (index.reader(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let latencies = times(effort, &reader, prefixes);
            done.store(true, Ordering::Relaxed);
            latencies
        });
        let mut dice = ChaCha8Rng::seed_from_u64(4);
        let third = HolderId::new(HOLDERS);
        while !done.load(Ordering::Relaxed) {
            let keys = prefix(dice.random_range(0..prefixes));
            let changes: Vec<Change> = match dice.random_bool(0.5) {
                true => keys.into_iter().map(Change::Stored).collect(),
                false => keys.into_iter().rev().map(Change::Removed).collect(),
            };
            index.apply_all(third, &changes, usize::MAX, |_, _| ());
        }
        reading.join().expect("lookups do not panic")
    })
}
