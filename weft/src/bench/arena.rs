//! Storing and loading through a real node daemon, over its socket and its shared memory, against copying the same bytes.
//!
//! The daemon runs in this process, on a runtime of its own and without metadata, so that what is measured is the path of an
//! engine: reserve, copy into the slot, checksum, commit; and pin, copy out, release.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::runtime::Builder;
use weft_node::Node;
use weft_node_client::NodeClient;
use weft_service::telemetry::Telemetry;
use weft_types::BlockHash;

use super::engine::attach_config;
use super::form::Bar;
use super::limits;
use super::measure::Effort;
use super::{Measured, params};

/// Blocks of an 8-billion-parameter model at 32 KiB a token, and of the simulated one.
const SIZES: [Size; 2] = [
    Size { store: "store_large_blocks", load: "load_large_blocks", block_bytes: 2 << 20, blocks: 32 },
    Size { store: "store_small_blocks", load: "load_small_blocks", block_bytes: 16 << 10, blocks: 512 },
];
/// Of the daemon: several times what one round stores, and more than any cache holds.
const HOST_MEMORY: &str = "512MiB";
/// Buffer of the copying limit.
const MEMCPY_BYTES: usize = 128 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

struct Size {
    store: &'static str,
    load: &'static str,
    block_bytes: usize,
    blocks: usize,
}

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let memcpy = limits::memcpy(effort, MEMCPY_BYTES);
    let mut bars = Vec::new();
    for size in &SIZES {
        let (store, load) = one_size(effort, size)?;
        bars.push(Bar::value(size.store, store / 1e9, "GB/s").against(memcpy / 1e9));
        bars.push(Bar::value(size.load, load / 1e9, "GB/s").against(memcpy / 1e9));
    }
    bars[0] = bars[0].clone().at_least(0.4);
    bars[1] = bars[1].clone().at_least(0.7);
    let sizes = SIZES.map(|size| json!({"block_bytes": size.block_bytes, "blocks": size.blocks}));
    Ok(Measured { params: params(json!({"sizes": sizes, "host_memory": HOST_MEMORY})), bars })
}

/// Bytes a second of storing and of loading.
fn one_size(effort: Effort, size: &Size) -> anyhow::Result<(f64, f64)> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let daemon = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let node = daemon.block_on(node(folder.path()))?;
    let measured = engine.block_on(async {
        let client = NodeClient::attach(attach_config(folder.path(), size.block_bytes, DEADLINE)?).await?;
        let measured = through(effort, &client, size).await;
        client.detach().await;
        measured
    });
    daemon.block_on(node.drain(DEADLINE));
    measured
}

async fn through(effort: Effort, client: &NodeClient, size: &Size) -> anyhow::Result<(f64, f64)> {
    let bytes = size.blocks * size.block_bytes;
    let from: Vec<u8> = (0..bytes).map(|byte| (byte % 251) as u8).collect();
    let mut to = vec![0; bytes];
    let mut stored = 0_u64;
    let mut prefix = Vec::new();
    let mut stores = Rounds::new(effort);
    while stores.go_on(bytes) {
        prefix = fresh(&mut stored, size.blocks);
        let outcome = client
            .store(&prefix, |number, slot| slot.copy_from_slice(&from[number * size.block_bytes..][..size.block_bytes]))
            .await;
        ensure!(outcome.stored == size.blocks, "only {outcome:?} of {} blocks", size.blocks);
    }
    let mut loads = Rounds::new(effort);
    while loads.go_on(bytes) {
        let loaded = client.load(&prefix, DEADLINE).await;
        ensure!(loaded.len() == size.blocks, "{} of {} blocks were loaded", loaded.len(), size.blocks);
        for (block, slot) in loaded.iter().zip(to.chunks_exact_mut(size.block_bytes)) {
            slot.copy_from_slice(block.bytes());
        }
        black_box(&mut to);
    }
    ensure!(to == from, "what was loaded is not what was stored");
    Ok((stores.median(), loads.median()))
}

/// Rounds of awaited work, as [`Effort::rate`] has for plain work.
struct Rounds {
    round: Duration,
    began: Instant,
    bytes: usize,
    rates: Vec<f64>,
}

impl Rounds {
    fn new(effort: Effort) -> Self {
        Self { round: effort.round(), began: Instant::now(), bytes: 0, rates: Vec::new() }
    }

    /// Called before each piece of `bytes`; `false` once there are enough rounds. The first one only warms up.
    fn go_on(&mut self, bytes: usize) -> bool {
        if self.began.elapsed() >= self.round {
            self.rates.push(self.bytes as f64 / self.began.elapsed().as_secs_f64());
            (self.began, self.bytes) = (Instant::now(), 0);
        }
        self.bytes += bytes;
        self.rates.len() <= Effort::ROUNDS
    }

    fn median(mut self) -> f64 {
        let rounds = &mut self.rates[1..];
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}

async fn node(folder: &Path) -> anyhow::Result<Node> {
    let config = json!({
        "name": "bench",
        "admin": "127.0.0.1:0",
        "socket": folder.join("socket/node.sock"),
        "state_dir": folder.join("state"),
        "host_memory": HOST_MEMORY,
    });
    Ok(Node::bind(serde_json::from_value(config)?, &Telemetry::for_tests()).await?)
}

/// Hashes that were never stored.
fn fresh(stored: &mut u64, count: usize) -> Vec<BlockHash> {
    let block = |_| {
        *stored += 1;
        BlockHash::from_bytes(*blake3::hash(&stored.to_le_bytes()).as_bytes())
    };
    (0..count).map(block).collect()
}
