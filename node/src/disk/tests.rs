//! A tier on a device that fails, hangs, or is full: what it cannot give is a miss, and nobody waits longer than he wanted.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::AtomicU8;

use parking_lot::{Condvar, Mutex};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_attach::Source;
use weft_store::disk::{AdmitAll, Device, FileDevice};
use weft_store::{Arena, MemoryBudget};
use weft_types::Checksum;

use super::*;
use crate::arenas::{ArenaLease, Arenas};
use crate::fetch::{Fetcher, Patience};
use crate::metrics::Metrics;
use crate::sample::contract;

const BLOCK_BYTES: u64 = 20_001;

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(20);

/// Short, for what is waited for in vain.
const SHORT: Duration = Duration::from_millis(50);

/// Files, in a mood.
#[derive(Debug)]
struct Moody {
    files: FileDevice,
    mood: AtomicU8,
    /// Reads wait here while it hangs.
    hangs: Mutex<bool>,
    goes_on: Condvar,
}

const WELL: u8 = 0;
const FAILS: u8 = 1;
const FULL: u8 = 2;

impl Moody {
    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn hang(&self, hangs: bool) {
        *self.hangs.lock() = hangs;
        self.goes_on.notify_all();
    }

    fn mood(&self) -> io::Result<()> {
        match self.mood.load(Ordering::SeqCst) {
            FAILS => Err(io::Error::other("input/output error")),
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Device for Moody {
    fn segments(&self) -> io::Result<Vec<u32>> {
        self.files.segments()
    }

    fn create(&self, segment: u32, bytes: u64) -> io::Result<()> {
        self.mood()?;
        self.files.create(segment, bytes)
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        self.files.remove(segment)
    }

    fn bytes(&self, segment: u32) -> io::Result<u64> {
        self.files.bytes(segment)
    }

    fn read(&self, segment: u32, offset: u64, into: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let mut hangs = self.hangs.lock();
        self.goes_on.wait_while(&mut hangs, |hangs| *hangs);
        drop(hangs);
        self.mood()?;
        self.files.read(segment, offset, into)
    }

    fn write(&self, segment: u32, offset: u64, from: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.mood()?;
        self.files.write(segment, offset, from)
    }

    fn sync(&self, segment: u32) -> io::Result<()> {
        self.files.sync(segment)
    }

    fn is_direct(&self) -> bool {
        self.files.is_direct()
    }
}

/// A node's memory and disk, without the rest of it.
struct World {
    device: Arc<Moody>,
    disk: Arc<Disk>,
    lease: ArenaLease,
    fetcher: Arc<Fetcher>,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: TempDir,
}

impl World {
    /// 2 MiB of memory, 85 slots; 16 MiB of disk, to which everything is admitted.
    async fn new(mood: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = FileDevice::open(folder.path()).unwrap();
        let (hangs, goes_on) = (Mutex::new(false), Condvar::new());
        let device = Arc::new(Moody { files, mood: AtomicU8::new(mood), hangs, goes_on });
        let bell = Arc::<Bell>::default();
        let (memory, rings) = (ByteSize::from_mib(2), Arc::clone(&bell));
        let arenas = Arenas::new(MemoryBudget::new(memory), memory, Arc::new(move || rings.ring()), true);
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (reads, queue) = Reads::new();
        let size = ByteSize::from_mib(16);
        let disk = Arc::new(Disk::new(size, bell, reads.hanging_after(SHORT), Arc::new(|| {})));
        let options = start::options(size, "n1".parse().unwrap());
        let feeds = (Arc::clone(&arenas), Box::new(AdmitAll) as Box<_>, metrics.demotions.clone());
        let device_too: Arc<dyn Device> = Arc::<Moody>::clone(&device);
        let disk = start::run((disk, queue), (device_too, options), feeds, (&tasks, &stop)).unwrap();
        let lease = arenas.attach(&contract(BLOCK_BYTES)).unwrap();
        arenas.ready(&lease).await;
        until(|| disk.phase() == Phase::Open).await;
        let patience = Patience { fetch: LONG, lookup: LONG, pause: LONG };
        let fetcher = Fetcher::new(Some(Arc::clone(&disk)), None, patience, metrics.clone(), tasks.clone());
        Self { device, disk, lease, fetcher, metrics, stop, tasks, _folder: folder }
    }

    /// Stores blocks and asks for them again.
    fn store(&self, blocks: &[BlockHash]) {
        store(&self.lease, blocks);
        drop(self.lease.pin_leading(blocks));
    }

    /// Stores blocks, has them written, and then only on disk.
    async fn put_on_disk(&self, blocks: &[BlockHash]) {
        self.store(blocks);
        until(|| self.disk.held().blocks == blocks.len()).await;
        until(|| self.lease.tier().held().pinned == 0).await;
        self.lease.clear(|_| false);
    }

    async fn load(&self, blocks: &[BlockHash], patience: Duration) -> usize {
        let mut run = Vec::new();
        self.fetcher.extend(&self.lease, blocks, &mut run, Instant::now() + patience).await;
        let count = run.len();
        for ((pinned, source), block) in run.into_iter().zip(blocks) {
            assert_eq!(source, Source::Disk);
            assert_eq!(pinned.into_bytes().unwrap().as_ref(), bytes_of(block));
        }
        count
    }

    /// All threads end, whatever the device did.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn prefix(blocks: u32) -> Vec<BlockHash> {
    let hash = |number: u32| {
        let mut bytes = [7; BlockHash::LEN];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        BlockHash::from_bytes(bytes)
    };
    (0..blocks).map(hash).collect()
}

fn bytes_of(block: &BlockHash) -> Vec<u8> {
    (0..BLOCK_BYTES).map(|at| block.as_bytes()[0] ^ at.to_le_bytes()[0]).collect()
}

fn store(arena: &Arc<Arena>, blocks: &[BlockHash]) {
    for (block, slot) in blocks.iter().zip(arena.reserve(blocks)) {
        let bytes = bytes_of(block);
        let mut slot = slot.unwrap();
        slot.write_at(0, &bytes).unwrap();
        drop(slot.commit(Checksum::of(&bytes)));
    }
}

async fn until(seen: impl Fn() -> bool) {
    while !seen() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_device_that_fails_loses_its_blocks_and_is_set_aside() {
    let world = World::new(WELL).await;
    let blocks = prefix(20);
    world.put_on_disk(&blocks).await;
    assert_eq!(world.load(&blocks[..3], LONG).await, 3);
    assert_eq!(world.disk.take_changes().unwrap().len(), 20);
    world.device.is(FAILS);
    assert_eq!(world.load(&blocks, LONG).await, 3, "what is in memory is served, the rest is a miss");
    until(|| world.disk.phase() == Phase::Aside).await;
    assert_eq!(world.disk.held().blocks, 0);
    assert_eq!(world.disk.take_changes(), None, "everything is gone: look at all of it");
    assert_eq!(world.disk.cut(|_| panic!("nothing is held")), Some(vec![]));
    world.device.is(WELL);
    assert_eq!(world.load(&blocks[3..], LONG).await, 0, "until the next start");
    world.end().await;
}

#[tokio::test]
async fn one_bad_read_costs_its_block() {
    let world = World::new(WELL).await;
    let blocks = prefix(20);
    world.put_on_disk(&blocks).await;
    world.device.is(FAILS);
    assert_eq!(world.load(&blocks[..1], LONG).await, 0);
    world.device.is(WELL);
    assert_eq!(world.load(&blocks[1..], LONG).await, 19);
    assert_eq!((world.disk.phase(), world.disk.held().blocks), (Phase::Open, 19));
    world.end().await;
}

#[tokio::test]
async fn a_read_that_hangs_costs_one_deadline_and_then_nothing() {
    let world = World::new(WELL).await;
    let blocks = prefix(20);
    world.put_on_disk(&blocks).await;
    world.device.hang(true);
    assert_eq!(world.load(&blocks, 2 * SHORT).await, 0, "until its deadline");
    assert!(world.disk.readable().is_none());
    let begun = Instant::now();
    assert_eq!(world.load(&blocks[1..], LONG).await, 0);
    assert!(begun.elapsed() < LONG, "nobody else waits for it");
    assert_eq!(world.lease.tier().held().reserved, 20, "slots that the device may still write to are nobody else's");
    world.device.hang(false);
    until(|| world.lease.tier().held().reserved == 0 && world.disk.readable().is_some()).await;
    assert_eq!(world.load(&blocks, LONG).await, 20);
    world.end().await;
}

#[tokio::test]
async fn what_is_not_begun_by_the_deadline_is_not_read() {
    let world = World::new(WELL).await;
    let blocks = prefix(40);
    world.put_on_disk(&blocks).await;
    world.device.hang(true);
    assert_eq!(world.load(&blocks, SHORT).await, 0);
    world.device.hang(false);
    until(|| world.lease.tier().held().reserved == 0).await;
    let promotions = &world.metrics.promotions;
    let (landed, late) = (promotions.landed.get(), promotions.late.get());
    assert_eq!(landed + late, 40);
    assert!(landed <= reads::READERS as u64, "only what was being read by then: {landed} were");
    world.end().await;
}

#[tokio::test]
async fn a_full_file_system_costs_the_tier_and_nothing_else() {
    let world = World::new(FULL).await;
    let blocks = prefix(20);
    world.store(&blocks);
    until(|| world.metrics.demotions.failed.get() == 20).await;
    assert_eq!((world.disk.phase(), world.disk.held().blocks), (Phase::Open, 0));
    until(|| world.lease.tier().held().pinned == 0).await;
    assert_eq!(world.lease.pin_leading(&blocks).len(), 20);
    world.end().await;
}
