//! Loading: what is here, what the disk tier has of the rest, and what peers have of what is left.
//!
//! ```text
//!   prefix ─► pin the leading run ─► the rest: is somebody fetching it? ─ yes ─► wait ─────────────┐
//!                   ▲                                │ no                                         │
//!                   │          on disk? ─ yes ─► read into a slot, checked ──────────────► commit │
//!                   │                  │ no                                                   ▲  │
//!                   │                  └─► lookup ─► best peer ─► stream into slots ──────────┘  │
//!                   └──────────────────── as blocks land ◄────────────────────────────────────────┘
//! ```
//!
//! # Invariants
//! - one flight per block, whoever asks: the others wait for it, and every block that lands stays pinned until all who
//!   waited had the time to pin it themselves;
//! - a fetch never evicts what is pinned, so not the run that it continues;
//! - past the deadline, what has arrived is served and the rest is a miss. The flight itself goes on to its own end: it is
//!   the one who asked first that sets it.

mod flights;
mod peers;
mod promote;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use weft_attach::Source;
use weft_store::{Arena, PinnedBlock};
use weft_transport::{Fabric, FetchRequest, Target};
use weft_types::{BlockHash, IndexKey, Role};

use self::flights::{Flight, Flights};
use self::peers::Peers;
use self::sink::ArenaSink;
use crate::directory::{Directory, PeerHolder};
use crate::disk::Disk;
use crate::metrics::Metrics;

/// Blocks in one flight: 512, a prefix of 32,768 tokens in blocks of 64. A longer rest is fetched by further flights.
const FLIGHT_BLOCKS_MAX: usize = 512;

/// Flights at once: 64. Links and memory bandwidth are full long before; beyond, a load is served what is here.
const FLIGHTS_MAX: usize = 64;

/// Peers that one flight tries, one after the other.
const SOURCES_MAX: usize = 3;

/// How patient fetching is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest fetch, whatever the engine allows.
    pub(crate) fetch: Duration,
    /// Longest lookup.
    pub(crate) lookup: Duration,
    /// First pause after a failure.
    pub(crate) pause: Duration,
}

/// Brings blocks to host memory. Shared by all sessions.
#[derive(Debug)]
pub(crate) struct Fetcher {
    disk: Option<Arc<Disk>>,
    /// `None` when the node stands alone.
    remote: Option<Remote>,
    flights: Arc<Flights>,
    slots: Arc<Semaphore>,
    patience: Patience,
    metrics: Metrics,
    tasks: TaskTracker,
}

/// Peers, and who knows what they hold.
#[derive(Debug)]
struct Remote {
    bulk: Fabric,
    directory: Arc<dyn Directory>,
    peers: Peers,
}

impl Fetcher {
    /// Reads from `disk`, and fetches over a fabric what a directory finds.
    pub(crate) fn new(
        disk: Option<Arc<Disk>>,
        remote: Option<(Fabric, Arc<dyn Directory>)>,
        patience: Patience,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let remote = remote.map(|(bulk, directory)| Remote { bulk, directory, peers: Peers::new(patience.pause) });
        let slots = Arc::new(Semaphore::new(FLIGHTS_MAX));
        Arc::new(Self { disk, remote, flights: Arc::default(), slots, patience, metrics, tasks })
    }

    /// Continues a run that is pinned already, from disk and from peers, until the prefix is whole, nobody has the next
    /// block, or the deadline has passed.
    pub(crate) async fn extend(
        self: &Arc<Self>,
        arena: &Arc<Arena>,
        prefix: &[BlockHash],
        run: &mut Vec<(PinnedBlock, Source)>,
        deadline: Instant,
    ) {
        let deadline = deadline.min(Instant::now() + self.patience.fetch);
        // Blocks that a flight of ours is bringing, or was: they are asked for once, on disk and at peers.
        let (mut read, mut tried) = (vec![false; prefix.len()], vec![false; prefix.len()]);
        while run.len() < prefix.len() && Instant::now() < deadline {
            let next = run.len();
            self.promote(arena, &prefix[next..], &mut read[next..], deadline);
            self.launch(arena, &prefix[next..], &mut tried[next..], deadline);
            let flight = self.flights.of(&prefix[next]).filter(|flight| self.moves(flight));
            let under_way = flight.is_some();
            let late = match flight {
                Some(flight) => timeout_at(deadline, self.flights.landed(&flight, &prefix[next])).await.is_err(),
                None => false,
            };
            // Somebody else's flight may have had less time than we have, and what was on disk may be at a peer: then ours
            // is next.
            let last_chance = tried[next] || !under_way;
            if self.take(arena, &prefix[next..], (&read[next..], &tried[next..]), run) == 0 && (late || last_chance) {
                return;
            }
        }
    }

    /// Starts a flight for what is neither here, nor in flight, nor tried.
    fn launch(self: &Arc<Self>, arena: &Arc<Arena>, rest: &[BlockHash], tried: &mut [bool], deadline: Instant) {
        let wanted = absent(arena, rest, tried);
        if wanted.is_empty() || self.remote.is_none() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.metrics.fetch_failures.busy.inc();
            return;
        };
        let Some((flight, claimed)) = self.flights.claim(Source::Peer, rest, &wanted, FLIGHT_BLOCKS_MAX) else {
            return;
        };
        claimed.iter().for_each(|at| tried[*at] = true);
        // What is claimed need not be neighbours; the directory is asked for the run that spans it.
        let (first, last) = (claimed[0], claimed[claimed.len() - 1]);
        let (fetcher, arena, span) = (Arc::clone(self), Arc::clone(arena), rest[first..=last].to_vec());
        let wanted = claimed.into_iter().map(|at| at - first).collect();
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Some(remote) = &fetcher.remote {
                fetcher.fly(remote, &arena, &flight, &span, wanted, deadline).await;
            }
        });
    }

    /// One flight: `wanted` positions of `span`, from one peer after the other.
    async fn fly(
        &self,
        remote: &Remote,
        arena: &Arc<Arena>,
        flight: &Flight,
        span: &[BlockHash],
        mut wanted: Vec<usize>,
        deadline: Instant,
    ) {
        let keys: Vec<_> = span.iter().map(BlockHash::index_key).collect();
        let mut holders = self.holders(remote, &keys, deadline).await;
        for _ in 0..SOURCES_MAX {
            let Some(holder) = remote.peers.best(&mut holders) else { break };
            let portion: Vec<_> = wanted.iter().copied().take_while(|at| *at < holder.blocks).collect();
            if portion.is_empty() {
                break;
            }
            let landed = self.fetch((remote, arena), flight, &holder, span, &portion, deadline).await;
            wanted.retain(|at| !landed.contains(at));
            if wanted.is_empty() || Instant::now() >= deadline {
                break;
            }
        }
    }

    async fn holders(&self, remote: &Remote, keys: &[IndexKey], deadline: Instant) -> Vec<PeerHolder> {
        if !remote.peers.directory_allows() {
            return Vec::new();
        }
        let patience = self.patience.lookup.min(deadline.saturating_duration_since(Instant::now()));
        let answer = remote.directory.holders(keys, patience).await;
        remote.peers.directory_answered(answer.is_ok());
        answer.unwrap_or_else(|error| {
            tracing::warn!(%error, "the directory does not say who holds a prefix: not fetching for a while");
            self.metrics.fetch_failures.lookup.inc();
            Vec::new()
        })
    }

    /// Streams blocks from one peer; returns the positions that landed.
    async fn fetch(
        &self,
        (remote, arena): (&Remote, &Arc<Arena>),
        flight: &Flight,
        holder: &PeerHolder,
        span: &[BlockHash],
        portion: &[usize],
        deadline: Instant,
    ) -> Vec<usize> {
        let blocks: Vec<_> = portion.iter().map(|at| span[*at]).collect();
        let reserved = arena.reserve(&blocks);
        if reserved.len() < blocks.len() {
            self.metrics.fetch_failures.space.inc();
        }
        // What has no slot got here, or is on its way, by other means since it was claimed.
        let (asked, slots): (Vec<_>, Vec<_>) =
            portion.iter().zip(reserved).filter_map(|(at, slot)| slot.map(|slot| (*at, Some(slot)))).unzip();
        if asked.is_empty() {
            return Vec::new();
        }
        let block_bytes = arena.region().geometry().block_bytes;
        let request = FetchRequest { blocks: asked.iter().map(|at| span[*at]).collect(), block_bytes };
        let target = Target { addr: holder.bulk, role: Role::Node, name: Some(holder.node.name().clone()) };
        let mut sink = ArenaSink::new(slots, &request.blocks, flight, &self.metrics);
        let patience = deadline.saturating_duration_since(Instant::now());
        let timer = self.metrics.fetch_seconds.start_timer();
        let _under_way = remote.peers.under_way(&holder.node);
        let outcome = remote.bulk.fetch(&target, request.clone(), &mut sink, patience).await;
        timer.observe_duration();
        let landed: Vec<_> = sink.landed().map(|index| asked[index]).collect();
        self.metrics.fetched_blocks.inc_by(landed.len() as u64);
        self.metrics.fetched_bytes.inc_by(landed.len() as u64 * block_bytes);
        match outcome {
            Ok(_) => remote.peers.succeeded(&holder.node),
            Err(error) => {
                tracing::warn!(%error, peer = %holder.node, asked = asked.len(), landed = landed.len(), "fetch broke off");
                self.metrics.fetch_failures.peer.inc();
                // A peer that was delivering until our own time was up is slow, not dead.
                if landed.is_empty() || Instant::now() < deadline {
                    remote.peers.failed(&holder.node);
                }
            }
        }
        landed
    }
}

/// Positions of blocks that are neither here nor on their way, nor tried.
fn absent(arena: &Arena, rest: &[BlockHash], tried: &[bool]) -> Vec<usize> {
    let tier = arena.tier();
    let absent = |block| !tier.contains(block) && !tier.is_pending(block);
    (0..rest.len()).filter(|at| !tried[*at] && absent(&rest[*at])).collect()
}

#[cfg(test)]
mod tests;
