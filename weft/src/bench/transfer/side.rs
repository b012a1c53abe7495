//! The two sides of a fetch: an arena that is served, and one that is filled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use weft_attach::{Geometry, Region};
use weft_service::certs::Ca;
use weft_store::{Arena, MemoryBudget, ReservedSlot};
use weft_transport::{
    BlockBytes, BlockRefusal, BlockSink, BlockSource, Fabric, FetchRequest, Identity, Metrics, Peer, Profile, Routes,
    Target,
};
use weft_types::{BlockHash, ByteSize, Checksum, Role};

use super::Size;
use crate::bench::engine;
use crate::bench::latencies::Latencies;

/// Longest fetch: far above what any size takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What one round did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    pub(super) bytes: usize,
    pub(super) took: Duration,
    /// Processor time of each side.
    pub(super) sender: Duration,
    pub(super) receiver: Duration,
}

impl Fetched {
    pub(super) fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64()
    }

    pub(super) fn sender_ns(&self) -> f64 {
        self.sender.as_nanos() as f64 / self.bytes as f64
    }

    pub(super) fn receiver_ns(&self) -> f64 {
        self.receiver.as_nanos() as f64 / self.bytes as f64
    }

    /// The round of median speed.
    pub(super) fn median(mut rounds: Vec<Self>) -> Self {
        rounds.sort_by(|a, b| a.bytes_per_s().total_cmp(&b.bytes_per_s()));
        rounds[rounds.len() / 2]
    }
}

/// A thread with a runtime that does all of one side's work, so that its processor time is that side's.
#[derive(Debug)]
pub(super) struct Side {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Side {
    pub(super) fn start(name: &str) -> anyhow::Result<Self> {
        let (end, ended) = oneshot::channel::<()>();
        let (ready, started) = mpsc::sync_channel(1);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || -> std::io::Result<()> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let _ = ready.send(runtime.handle().clone());
            runtime.block_on(async { drop(ended.await) });
            Ok(())
        })?;
        Ok(Self { handle: started.recv().context("the thread did not start")?, _end: end })
    }

    /// Runs something there, and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> anyhow::Result<T> {
        let (done, result) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let _ = done.send(work.await);
        });
        result.recv().map_err(|_| anyhow!("a side of the bench panicked"))
    }

    /// Processor time of the thread so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.run(async {
            // Time on a processor, time in the queue for one, and turns.
            let said = std::fs::read_to_string("/proc/thread-self/schedstat").context("cannot read processor time")?;
            let nanos = said.split_whitespace().next().context("/proc/thread-self/schedstat is empty")?.parse()?;
            Ok(Duration::from_nanos(nanos))
        })?
    }
}

/// A node that has the blocks.
#[derive(Debug)]
pub(super) struct Sender {
    side: Side,
    fabric: Fabric,
}

impl Sender {
    pub(super) fn start(ca: &Ca, size: Size) -> anyhow::Result<Self> {
        let side = Side::start("bench-sender")?;
        let arena = arena(size.block_bytes, size.source)?;
        let blocks: Vec<_> = (0..size.source).map(hash).collect();
        for (number, slot) in arena.reserve(&blocks).into_iter().enumerate() {
            let mut slot = slot.context("an empty arena has no room")?;
            let bytes = slot.bytes_mut();
            bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = ((at + number) % 251) as u8);
            let checksum = Checksum::of(bytes);
            drop(slot.commit(checksum));
        }
        let fabric = bind(&side, ca, "sender")?;
        // There, so that whatever serves is in that side's processor time.
        let (serving, source) = (fabric.clone(), Arc::new(Serving { arena, blocks: size.source }));
        side.run(async move { serving.serve(Routes::new().blocks(&[Role::Node], source)) })?;
        Ok(Self { side, fabric })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.fabric.local_addr()
    }
}

/// A node that fetches them.
#[derive(Debug)]
pub(super) struct Receiver {
    side: Side,
    fabric: Fabric,
    arena: Arc<Arena>,
    target: Target,
    block_bytes: usize,
    next: Arc<AtomicUsize>,
}

impl Receiver {
    pub(super) fn start(ca: &Ca, size: Size, from: SocketAddr) -> anyhow::Result<Self> {
        let side = Side::start("bench-receiver")?;
        let fabric = bind(&side, ca, "receiver")?;
        let target = Target { addr: from, role: Role::Node, name: None };
        let arena = arena(size.block_bytes, size.slots)?;
        Ok(Self { side, fabric, arena, target, block_bytes: size.block_bytes, next: Arc::default() })
    }

    /// One block after the other on each of `in_flight` streams, for a while.
    pub(super) fn fetch(&self, sender: &Sender, in_flight: usize, time: Duration) -> anyhow::Result<Fetched> {
        let before = (sender.side.cpu()?, self.side.cpu()?);
        let began = Instant::now();
        let streams = (0..in_flight).map(|_| {
            let (fabric, arena, to) = (self.fabric.clone(), Arc::clone(&self.arena), self.target.clone());
            let (next, block_bytes) = (Arc::clone(&self.next), self.block_bytes);
            async move {
                let mut blocks = 0;
                while began.elapsed() < time {
                    let block = hash(next.fetch_add(1, Ordering::Relaxed));
                    bring(&fabric, &to, &arena, &[block], block_bytes).await?;
                    blocks += 1;
                }
                anyhow::Ok(blocks)
            }
        });
        let blocks: usize = self.side.run(try_join_all(streams))??.into_iter().sum();
        let took = began.elapsed();
        let (sender, receiver) = (sender.side.cpu()? - before.0, self.side.cpu()? - before.1);
        Ok(Fetched { bytes: blocks * self.block_bytes, took, sender, receiver })
    }

    /// Times of prefixes of so many blocks, none of which is here.
    pub(super) fn prefixes(&self, blocks: usize, count: usize) -> anyhow::Result<Latencies> {
        let (fabric, arena, to, block_bytes) =
            (self.fabric.clone(), Arc::clone(&self.arena), self.target.clone(), self.block_bytes);
        self.side.run(async move {
            let prefix: Vec<_> = (0..blocks).map(hash).collect();
            let mut latencies = Latencies::default();
            for _ in 0..count.max(1) {
                arena.clear(|_| false);
                let began = Instant::now();
                bring(&fabric, &to, &arena, &prefix, block_bytes).await?;
                latencies.add(began.elapsed());
            }
            anyhow::Ok(latencies)
        })?
    }
}

async fn bring(
    fabric: &Fabric,
    to: &Target,
    arena: &Arc<Arena>,
    blocks: &[BlockHash],
    block_bytes: usize,
) -> anyhow::Result<()> {
    let slots = arena.reserve(blocks);
    let free = slots.iter().flatten().count();
    ensure!(
        free == blocks.len(),
        "{free} of {} blocks got a slot: the others are here, or nothing can leave",
        blocks.len()
    );
    let mut sink = Filling { slots, complete: 0 };
    let request = FetchRequest { blocks: blocks.to_vec(), block_bytes: block_bytes as u64 };
    fabric.fetch(to, request, &mut sink, DEADLINE).await?;
    ensure!(sink.complete == blocks.len(), "{} of {} blocks came", sink.complete, blocks.len());
    Ok(())
}

/// As a node's: see `serve.rs` there. It has every block that is asked for, by its number's remainder, so that none that comes was
/// there before.
struct Serving {
    arena: Arc<Arena>,
    blocks: usize,
}

impl BlockSource for Serving {
    fn read(&self, _: &Peer, block: &BlockHash, _: u64) -> Result<BlockBytes, BlockRefusal> {
        let pinned = self.arena.pin(&hash(number(block) % self.blocks)).ok_or(BlockRefusal::Gone)?;
        let checksum = pinned.checksum();
        let bytes = pinned.into_bytes().map_err(|_| BlockRefusal::Gone)?;
        Ok(BlockBytes { bytes: Bytes::from_owner(bytes), checksum })
    }
}

/// As a node's: each chunk into its slot, committed when the block is whole and proven.
struct Filling {
    slots: Vec<Option<ReservedSlot>>,
    complete: usize,
}

impl BlockSink for Filling {
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]) {
        if let Some(slot) = self.slots[index].as_mut() {
            slot.write_at(offset, bytes).expect("a chunk is within its block");
        }
    }

    fn complete(&mut self, index: usize, checksum: Checksum) {
        if let Some(slot) = self.slots[index].take() {
            drop(slot.commit(checksum));
            self.complete += 1;
        }
    }

    fn refused(&mut self, _: usize, _: BlockRefusal) {}
}

fn bind(side: &Side, ca: &Ca, name: &str) -> anyhow::Result<Fabric> {
    let issued = ca.issue(Role::Node.as_str(), name, 1)?;
    let identity = Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem())?;
    let metrics = Metrics::register(&prometheus::Registry::new());
    side.run(async move {
        Fabric::bind("127.0.0.1:0".parse()?, Profile::Bulk, &identity, metrics).map_err(anyhow::Error::from)
    })?
}

/// All pages faulted in.
fn arena(block_bytes: usize, slots: usize) -> anyhow::Result<Arc<Arena>> {
    let bytes = (block_bytes * slots) as u64;
    let region = Region::create("weft-bench", Geometry::fit(block_bytes as u64, bytes)?)?;
    let share = MemoryBudget::new(ByteSize::from_bytes(bytes)).take(ByteSize::from_bytes(bytes))?;
    let arena = Arena::new(engine::contract(block_bytes), region, share, Box::new(|| {}));
    Arena::populate(&Arc::downgrade(&arena), || {})?;
    Ok(arena)
}

fn number(block: &BlockHash) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block.as_bytes()[..8]);
    usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(0)
}

fn hash(number: usize) -> BlockHash {
    let mut bytes = [0; BlockHash::LEN];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    BlockHash::from_bytes(bytes)
}
