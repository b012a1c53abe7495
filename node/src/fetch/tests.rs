//! Fetching over real QUIC on loopback, from peers that are honest, lying, dead or slow.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use prometheus::Registry;
use weft_metadata_client::MetadataError;
use weft_service::certs::Ca;
use weft_store::MemoryBudget;
use weft_transport::{BlockBytes, BlockRefusal, BlockSource, Identity, Peer, Profile, Routes};
use weft_types::{ByteSize, Checksum, NodeId};

use super::*;
use crate::arenas::{ArenaLease, Arenas};
use crate::sample::contract;
use crate::serve::HostBlocks;

/// Two datagrams and a bit.
const BLOCK_BYTES: u64 = 20_001;

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(20);

fn hash(number: u32) -> BlockHash {
    let mut bytes = [7; BlockHash::LEN];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    BlockHash::from_bytes(bytes)
}

fn prefix(blocks: u32) -> Vec<BlockHash> {
    (0..blocks).map(hash).collect()
}

fn bytes_of(block: &BlockHash) -> Vec<u8> {
    (0..BLOCK_BYTES).map(|at| block.as_bytes()[0] ^ at.to_le_bytes()[0]).collect()
}

/// One cluster's worth of certificates, and what its directory says.
struct World {
    ca: Ca,
}

/// A node without engines: arenas, and a bulk socket.
struct Side {
    lease: ArenaLease,
    bulk: Fabric,
    metrics: Metrics,
    name: NodeId,
}

/// Says what it was told to say, answer by answer; the last one again and again.
#[derive(Debug)]
struct Told {
    answers: Vec<Vec<PeerHolder>>,
    asked: AtomicUsize,
}

impl Directory for Told {
    fn holders<'a>(
        &'a self,
        _prefix: &'a [IndexKey],
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<PeerHolder>, MetadataError>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let holders = self.answers[asked.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(holders) })
    }
}

impl World {
    fn new() -> Self {
        Self { ca: Ca::create("test").unwrap() }
    }

    fn bulk(&self, name: &str) -> Fabric {
        let issued = self.ca.issue("node", name, 1).unwrap();
        let identity = Identity::from_pem(&issued.cert, &issued.key, self.ca.cert_pem()).unwrap();
        let metrics = weft_transport::Metrics::register(&Registry::new());
        Fabric::bind("127.0.0.1:0".parse().unwrap(), Profile::Bulk, &identity, metrics).unwrap()
    }

    /// A node that holds `blocks`, in an arena of 8 MiB, and serves them.
    async fn side(&self, name: &str, blocks: &[BlockHash]) -> Side {
        let memory = ByteSize::from_mib(8);
        let arenas = Arenas::new(MemoryBudget::new(memory), memory, Arc::new(|| {}), false);
        let lease = arenas.attach(&contract(BLOCK_BYTES)).unwrap();
        arenas.ready(&lease).await;
        store(&lease, blocks);
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let bulk = self.bulk(name);
        bulk.serve(Routes::new().blocks(&[Role::Node], Arc::new(HostBlocks::new(arenas, None, metrics.clone()))));
        Side { lease, bulk, metrics, name: name.parse().unwrap() }
    }

    /// A peer that serves what `source` gives.
    fn peer(&self, name: &str, source: impl BlockSource, blocks: usize) -> (Fabric, PeerHolder) {
        let bulk = self.bulk(name);
        bulk.serve(Routes::new().blocks(&[Role::Node], Arc::new(source)));
        let holder = PeerHolder { node: name.parse().unwrap(), bulk: bulk.local_addr(), blocks };
        (bulk, holder)
    }
}

impl Side {
    fn holds(&self, blocks: usize) -> PeerHolder {
        PeerHolder { node: self.name.clone(), bulk: self.bulk.local_addr(), blocks }
    }

    fn fetcher(&self, holders: Vec<PeerHolder>) -> (Arc<Fetcher>, Arc<Told>) {
        self.fetcher_told(vec![holders])
    }

    fn fetcher_told(&self, answers: Vec<Vec<PeerHolder>>) -> (Arc<Fetcher>, Arc<Told>) {
        let told = Arc::new(Told { answers, asked: AtomicUsize::new(0) });
        let patience = Patience { fetch: LONG, lookup: LONG, pause: LONG };
        let directory: Arc<dyn Directory> = Arc::<Told>::clone(&told);
        let remote = Some((self.bulk.clone(), directory));
        (Fetcher::new(None, remote, patience, self.metrics.clone(), TaskTracker::new()), told)
    }

    async fn load(
        &self,
        fetcher: &Arc<Fetcher>,
        blocks: &[BlockHash],
        patience: Duration,
    ) -> Vec<(PinnedBlock, Source)> {
        let here = self.lease.pin_leading(blocks);
        let mut run: Vec<_> = here.into_iter().map(|block| (block, Source::Host)).collect();
        fetcher.extend(&self.lease, blocks, &mut run, Instant::now() + patience).await;
        run
    }
}

fn store(arena: &Arc<Arena>, blocks: &[BlockHash]) {
    for (block, slot) in blocks.iter().zip(arena.reserve(blocks)) {
        let bytes = bytes_of(block);
        let mut slot = slot.unwrap();
        slot.write_at(0, &bytes).unwrap();
        drop(slot.commit(Checksum::of(&bytes)));
    }
}

/// The bytes of a run, all of them compared.
fn check(run: Vec<(PinnedBlock, Source)>, blocks: &[BlockHash]) {
    assert_eq!(run.len(), blocks.len());
    for ((pinned, _), block) in run.into_iter().zip(blocks) {
        assert_eq!(pinned.into_bytes().unwrap().as_ref(), bytes_of(block));
    }
}

/// Serves every block, with bytes that `spoil` changed after their checksum was made.
struct Liar(fn(&BlockHash, &mut Vec<u8>));

impl BlockSource for Liar {
    fn read(&self, _peer: &Peer, block: &BlockHash, _block_bytes: u64) -> Result<BlockBytes, BlockRefusal> {
        let mut bytes = bytes_of(block);
        let checksum = Checksum::of(&bytes);
        self.0(block, &mut bytes);
        Ok(BlockBytes { bytes: Bytes::from(bytes), checksum })
    }
}

#[tokio::test]
async fn what_is_missing_here_comes_from_a_peer() {
    let world = World::new();
    let blocks = prefix(40);
    let (here, there) = (world.side("here", &blocks[..3]).await, world.side("there", &blocks[..30]).await);
    let (fetcher, _) = here.fetcher(vec![there.holds(27)]);
    let run = here.load(&fetcher, &blocks, LONG).await;
    let sources: Vec<_> = run.iter().map(|(_, source)| *source).collect();
    assert_eq!((&sources[..3], &sources[3..]), (&[Source::Host; 3][..], &[Source::Peer; 27][..]));
    check(run, &blocks[..30]);
    assert_eq!(here.metrics.fetched_bytes.get(), 27 * BLOCK_BYTES);
    assert_eq!(there.metrics.served_blocks.get(), 27);
    let held = here.lease.tier().held();
    assert_eq!((held.complete, held.pinned, held.reserved), (30, 0, 0));
}

#[tokio::test]
async fn whoever_asks_there_is_one_flight_a_block() {
    let world = World::new();
    let blocks = prefix(64);
    let (here, there) = (world.side("here", &[]).await, world.side("there", &blocks).await);
    let (fetcher, _) = here.fetcher(vec![there.holds(64)]);
    let loads = (1..=16).map(|number| here.load(&fetcher, &blocks[..number * 4], LONG));
    for (number, run) in (1..).zip(join_all(loads).await) {
        check(run, &blocks[..number * 4]);
    }
    assert_eq!(there.metrics.served_blocks.get(), 64, "every block was sent once");
}

#[tokio::test]
async fn a_block_with_other_bytes_is_refused_counted_and_taken_from_another_peer() {
    let world = World::new();
    let blocks = prefix(10);
    let spoil: fn(&BlockHash, &mut Vec<u8>) = |block, bytes| bytes[20_000] ^= u8::from(*block == hash(4));
    let (here, there) = (world.side("here", &[]).await, world.side("there", &blocks).await);
    // The liar seems to have more, and is asked first.
    let (_liar, holder) = world.peer("liar", Liar(spoil), 11);
    let (fetcher, _) = here.fetcher(vec![there.holds(10), holder.clone()]);
    check(here.load(&fetcher, &blocks, LONG).await, &blocks);
    assert_eq!((here.metrics.checksum_failures.get(), there.metrics.served_blocks.get()), (1, 1));

    let alone = world.side("alone", &[]).await;
    let (fetcher, _) = alone.fetcher(vec![holder]);
    check(alone.load(&fetcher, &blocks, LONG).await, &blocks[..4]);
    assert_eq!(alone.metrics.checksum_failures.get(), 1);
    assert!(alone.lease.pin(&hash(4)).is_none(), "a corrupt block cannot be found");
    assert!(alone.lease.pin(&hash(5)).is_some(), "those behind it are good, for when it comes");
}

#[tokio::test]
async fn a_peer_that_no_longer_holds_a_block_is_followed_by_the_next() {
    let world = World::new();
    let blocks = prefix(10);
    let (here, stale) = (world.side("here", &[]).await, world.side("stale", &blocks[..6]).await);
    let there = world.side("there", &blocks).await;
    let (fetcher, _) = here.fetcher(vec![there.holds(10), stale.holds(11)]);
    check(here.load(&fetcher, &blocks, LONG).await, &blocks);
    assert_eq!((stale.metrics.served_blocks.get(), there.metrics.served_blocks.get()), (6, 4));
    assert_eq!(here.metrics.fetch_failures.gone.get(), 4);
}

#[tokio::test]
async fn a_dead_peer_costs_one_deadline_and_then_nothing() {
    let world = World::new();
    let blocks = prefix(4);
    let (here, silence) = (world.side("here", &blocks[..1]).await, UdpSocket::bind("127.0.0.1:0").unwrap());
    let dead = PeerHolder { node: "dead".parse().unwrap(), bulk: silence.local_addr().unwrap(), blocks: 3 };
    let (fetcher, told) = here.fetcher(vec![dead]);
    let patience = Duration::from_millis(100);
    check(here.load(&fetcher, &blocks, patience).await, &blocks[..1]);
    fetcher.tasks.close();
    fetcher.tasks.wait().await;
    assert_eq!(here.metrics.fetch_failures.peer.get(), 1);
    // With time to spare: it returns because the peer is not asked again.
    check(here.load(&fetcher, &blocks, LONG * 1000).await, &blocks[..1]);
    assert_eq!((here.metrics.fetch_failures.peer.get(), told.asked.load(Ordering::Relaxed)), (1, 2));
    assert_eq!(here.lease.tier().held().reserved, 0, "its slots came back");
}

#[tokio::test]
async fn a_peer_of_another_name_is_not_talked_to() {
    let world = World::new();
    let blocks = prefix(4);
    let (here, there) = (world.side("here", &[]).await, world.side("there", &blocks).await);
    let impostor = PeerHolder { node: "somebody-else".parse().unwrap(), ..there.holds(4) };
    let (fetcher, _) = here.fetcher(vec![impostor]);
    check(here.load(&fetcher, &blocks, LONG).await, &[]);
    assert_eq!(there.metrics.served_blocks.get(), 0);
}

#[tokio::test]
async fn a_fetch_does_not_evict_what_is_pinned() {
    let world = World::new();
    let here = world.side("here", &[]).await;
    let slots = here.lease.region().geometry().slots;
    let blocks = prefix(slots + 10);
    store(&here.lease, &blocks[..slots as usize]);
    let there = world.side("there", &blocks[slots as usize..]).await;
    let (fetcher, _) = here.fetcher(vec![there.holds(10)]);
    check(here.load(&fetcher, &blocks, LONG).await, &blocks[..slots as usize]);
    assert_eq!((here.metrics.fetch_failures.space.get(), there.metrics.served_blocks.get()), (1, 0));
}

#[tokio::test]
async fn what_arrived_by_the_deadline_is_served() {
    let world = World::new();
    let blocks = prefix(8);
    let (here, there) = (world.side("here", &[]).await, world.side("there", &blocks[..5]).await);
    let silence = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = PeerHolder { node: "dead".parse().unwrap(), bulk: silence.local_addr().unwrap(), blocks: 8 };
    // The first is said to have more than it has; the rest is asked of the second.
    let (fetcher, told) = here.fetcher(vec![there.holds(9), dead]);
    check(here.load(&fetcher, &blocks, Duration::from_secs(2)).await, &blocks[..5]);
    fetcher.tasks.close();
    fetcher.tasks.wait().await;
    assert_eq!((here.metrics.fetch_failures.peer.get(), told.asked.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_flight_that_had_less_time_is_followed_by_one_s_own() {
    let world = World::new();
    let blocks = prefix(4);
    let (here, there) = (world.side("here", &[]).await, world.side("there", &blocks).await);
    let silence = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = PeerHolder { node: "dead".parse().unwrap(), bulk: silence.local_addr().unwrap(), blocks: 4 };
    let (fetcher, _) = here.fetcher_told(vec![vec![dead], vec![there.holds(4)]]);
    let hasty = here.load(&fetcher, &blocks, Duration::from_millis(100));
    let patient = here.load(&fetcher, &blocks, LONG);
    let (hasty, patient) = tokio::join!(hasty, patient);
    check(hasty, &[]);
    check(patient, &blocks);
}
