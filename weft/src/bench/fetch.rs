//! Block streams between two fabrics over loopback: QUIC, mutual TLS, checksums, and the copy to where the blocks belong.
//!
//! Each side has a runtime with one worker, as two processes on two cores would. Loopback has no network card: both ends share
//! the machine's cores, so the ratio to TCP, which does nothing of the above, is what to look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use weft_service::certs::Ca;
use weft_transport::{
    BlockBytes, BlockRefusal, BlockSink, BlockSource, Fabric, FetchRequest, Identity, Metrics, Peer, Profile, Routes,
    Target,
};
use weft_types::{BlockHash, Checksum, Role};

use super::form::Bar;
use super::limits;
use super::measure::Effort;
use super::{Measured, params};

/// Blocks of an 8-billion-parameter model at 32 KiB a token, and of the simulated one.
const LARGE: Size = Size { id: "large_blocks", block_bytes: 2 << 20, blocks: 16 };
const SMALL: Size = Size { id: "small_blocks", block_bytes: 16 << 10, blocks: 256 };
/// Longest fetch: far above what either size takes.
const DEADLINE: Duration = Duration::from_secs(20);
/// Buffer of the copying limit: more than any cache holds.
const MEMCPY_BYTES: usize = 128 << 20;

struct Size {
    id: &'static str,
    block_bytes: usize,
    blocks: usize,
}

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let ca = Ca::create("bench")?;
    let (source, sink) = (Side::new(&ca, "source")?, Side::new(&ca, "sink")?);
    let tcp = limits::tcp_loopback(effort)?;
    let memcpy = limits::memcpy(effort, MEMCPY_BYTES);
    source.fabric.serve(Routes::new().blocks(&[Role::Node], Arc::new(Memory::of(&[LARGE, SMALL]))));
    let to = Target { addr: source.fabric.local_addr(), role: Role::Node, name: None };
    let large = sink.rate(effort, &to, &LARGE)?;
    let small = sink.rate(effort, &to, &SMALL)?;
    source.close();
    sink.close();
    let gb = |bytes_per_s: f64| bytes_per_s / 1e9;
    let bars = vec![
        Bar::value(LARGE.id, gb(large), "GB/s").against(gb(tcp)).at_least(0.25),
        Bar::value(SMALL.id, gb(small), "GB/s").against(gb(tcp)).at_least(0.2),
        Bar::value("tcp_loopback", gb(tcp), "GB/s").against(gb(memcpy)),
    ];
    let sizes = |size: &Size| json!({"block_bytes": size.block_bytes, "blocks": size.blocks});
    Ok(Measured { params: params(json!({LARGE.id: sizes(&LARGE), SMALL.id: sizes(&SMALL)})), bars })
}

/// One process's worth: a fabric and the thread that drives it.
struct Side {
    runtime: Runtime,
    fabric: Fabric,
}

impl Side {
    fn new(ca: &Ca, name: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let issued = ca.issue(Role::Node.as_str(), name, 1)?;
        let identity = Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem())?;
        let metrics = Metrics::register(&prometheus::Registry::new());
        let bind = async {
            Fabric::bind("127.0.0.1:0".parse()?, Profile::Bulk, &identity, metrics).map_err(anyhow::Error::from)
        };
        let fabric = runtime.block_on(bind)?;
        Ok(Self { runtime, fabric })
    }

    /// Bytes a second of one fetch after the other: the median of the rounds.
    fn rate(&self, effort: Effort, to: &Target, size: &Size) -> anyhow::Result<f64> {
        let (fabric, to) = (self.fabric.clone(), to.clone());
        let (block_bytes, blocks) = (size.block_bytes, size.blocks);
        let round = effort.round();
        let rounds = self.runtime.spawn(async move {
            let hashes: Vec<_> = (0..blocks).map(|number| hash(number, block_bytes)).collect();
            let request = FetchRequest { blocks: hashes, block_bytes: block_bytes as u64 };
            let mut arena = Arena { block_bytes, slots: vec![0; blocks * block_bytes], complete: 0 };
            let mut rates = Vec::new();
            for _ in 0..=Effort::ROUNDS {
                let (began, mut bytes) = (Instant::now(), 0);
                while began.elapsed() < round {
                    arena.complete = 0;
                    fabric.fetch(&to, request.clone(), &mut arena, DEADLINE).await?;
                    ensure!(arena.complete == blocks, "{} of {blocks} blocks came", arena.complete);
                    bytes += blocks * block_bytes;
                }
                rates.push(bytes as f64 / began.elapsed().as_secs_f64());
            }
            // The first round made the connection and grew its window.
            rates.remove(0);
            rates.sort_by(f64::total_cmp);
            anyhow::Ok(rates[rates.len() / 2])
        });
        self.runtime.block_on(rounds).context("the fetching task panicked")?
    }

    fn close(self) {
        self.runtime.block_on(self.fabric.close());
    }
}

fn hash(number: usize, block_bytes: usize) -> BlockHash {
    let mut bytes = [0; BlockHash::LEN];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&(block_bytes as u64).to_le_bytes());
    BlockHash::from_bytes(bytes)
}

/// A source that has every block, with the same bytes for all of one size.
struct Memory {
    blocks: Vec<BlockBytes>,
}

impl Memory {
    fn of(sizes: &[Size]) -> Self {
        let block = |size: &Size| {
            let bytes: Vec<u8> = (0..size.block_bytes).map(|byte| (byte % 251) as u8).collect();
            BlockBytes { checksum: Checksum::of(&bytes), bytes: Bytes::from(bytes) }
        };
        Self { blocks: sizes.iter().map(block).collect() }
    }
}

impl BlockSource for Memory {
    fn read(&self, _: &Peer, _: &BlockHash, block_bytes: u64) -> Result<BlockBytes, BlockRefusal> {
        let block = self.blocks.iter().find(|block| block.bytes.len() as u64 == block_bytes);
        block.cloned().ok_or(BlockRefusal::WrongLayout)
    }
}

/// A sink that copies each block to its place.
struct Arena {
    block_bytes: usize,
    slots: Vec<u8>,
    complete: usize,
}

impl BlockSink for Arena {
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]) {
        let begin = index * self.block_bytes + usize::try_from(offset).expect("an offset in a block that is in memory");
        self.slots[begin..begin + bytes.len()].copy_from_slice(bytes);
    }

    fn complete(&mut self, _: usize, _: Checksum) {
        self.complete += 1;
    }

    fn refused(&mut self, _: usize, _: BlockRefusal) {}
}
