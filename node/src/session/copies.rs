//! Copies that the node makes by itself, between the arena and an engine's KV cache on a GPU: `gpu_copies`, off by default.
//!
//! # Invariants
//! - the engine's memory is open from its `SharedCache` to the end of its session, or of its last copy, whichever is later;
//! - slots are held by the node's own pins and reservations while a copy runs, whatever becomes of the engine;
//! - the connection stays until no copy runs: when it closes, the engine's pages are its own again.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use weft_attach::{CacheShared, LoadPages, PagesLoaded, PagesStored, SharedCache, StorePages};
use weft_gpu::ipc::{self, PeerReady};
use weft_gpu::{Copier, GpuError, Row};
use weft_store::{Arena, ReservedSlot};
use weft_types::{BlockHash, Checksum};

use crate::metrics::Metrics;

/// Copies of one engine that run or wait: 64, as many as a batch begins at once. One beyond is refused.
const COPIES_MAX: u32 = 64;

/// Blocks reserved at once for a store: as many as a client reserves.
const STORED_AT_ONCE: usize = 256;

/// An engine's copies.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    allowed: bool,
    arena: Arc<Arena>,
    opened: Arc<Mutex<Option<Arc<Opened>>>>,
    running: Arc<Semaphore>,
}

/// An engine's cache, open here.
#[derive(Debug)]
struct Opened {
    copier: Copier,
    ready: PeerReady,
}

impl Copies {
    pub(super) fn new(allowed: bool, arena: &Arc<Arena>) -> Self {
        let running = Arc::new(Semaphore::new(COPIES_MAX as usize));
        Self { allowed, arena: Arc::clone(arena), opened: Arc::default(), running }
    }

    /// Opens the engine's cache, or says why not.
    pub(super) async fn share(&self, cache: SharedCache) -> CacheShared {
        let refused = if self.allowed {
            let copies = self.clone();
            let opened = spawn_blocking(move || copies.open(&cache)).await;
            opened.unwrap_or_else(|_| Some("the node failed in opening it: see its log".to_owned()))
        } else {
            Some("gpu_copies is off at this node".to_owned())
        };
        if let Some(reason) = &refused {
            tracing::info!(reason, "the engine copies by itself");
        }
        CacheShared { refused }
    }

    fn open(&self, cache: &SharedCache) -> Option<String> {
        let opened = ipc::open(cache).and_then(|(cache, ready)| Ok(Opened { copier: Copier::new(cache)?, ready }));
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return Some(error.to_string()),
        };
        let region = self.arena.region();
        let (here, there) = (region.geometry().block_bytes, opened.copier.cache().row_bytes() as u64);
        if here != there {
            return Some(format!("a block of the cache has {there} bytes, of the contract {here}"));
        }
        let pinned = opened.copier.pin(region);
        tracing::info!(device = opened.copier.cache().gpu().found().name, pinned, "the node copies for the engine");
        *self.opened.lock() = Some(Arc::new(opened));
        None
    }

    /// Stores blocks that the node lacks. With the first that finds no slot, or no copy, the rest is refused.
    pub(super) async fn store(&self, metrics: &Metrics, request: StorePages) -> PagesStored {
        let done = self.run(move |opened, arena| store(opened, arena, &request)).await.unwrap_or_default();
        metrics.stored_blocks.inc_by(u64::from(done.stored));
        metrics.stored_bytes.inc_by(u64::from(done.stored) * self.arena.region().geometry().block_bytes);
        done
    }

    /// Copies blocks that are here into the engine's pages.
    pub(super) async fn load(&self, request: LoadPages) -> PagesLoaded {
        self.run(move |opened, arena| load(opened, arena, request)).await.unwrap_or_default()
    }

    /// Waits until no copy runs, and closes the engine's memory.
    pub(super) async fn end(self) {
        // Nobody closes the semaphore, and no request comes any more.
        let _all = self.running.acquire_many(COPIES_MAX).await;
        let opened = self.opened.lock().take();
        // The driver may take its time.
        drop(spawn_blocking(move || drop(opened)).await);
    }

    /// On a thread that may wait; `None` when nothing is open, too much waits, or it failed.
    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Opened, &Arc<Arena>) -> Result<T, GpuError> + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.running).try_acquire_owned().ok()?;
        let opened = self.opened.lock().clone()?;
        let arena = Arc::clone(&self.arena);
        let done = spawn_blocking(move || {
            let done = act(&opened, &arena);
            drop(opened);
            drop(permit);
            done
        });
        match done.await.ok()? {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::warn!(%error, "cannot copy for the engine");
                None
            }
        }
    }
}

fn store(opened: &Opened, arena: &Arc<Arena>, request: &StorePages) -> Result<PagesStored, GpuError> {
    let ratio = opened.copier.cache().ratio();
    let mut done = PagesStored::default();
    let pages = request.pages.chunks(ratio.saturating_mul(STORED_AT_ONCE));
    for (blocks, pages) in request.blocks.chunks(STORED_AT_ONCE).zip(pages) {
        let reserved = arena.reserve(blocks);
        let full = reserved.len() < blocks.len();
        let mut slots: Vec<(Row, ReservedSlot)> = Vec::new();
        for (slot, pages) in reserved.into_iter().zip(pages.chunks_exact(ratio)) {
            match slot {
                Some(slot) => slots.push((Row { skip: 0, pages: pages.to_vec() }, slot)),
                None => done.present += 1,
            }
        }
        let mut rows: Vec<_> = slots.iter_mut().map(|(row, slot)| (row.clone(), slot.bytes_mut())).collect();
        opened.copier.store(&mut rows, Some(opened.ready.as_engine()))?;
        done.stored += u32::try_from(slots.len()).expect("few slots");
        // The last first: of a chain, the front becomes the most recent.
        for (_, mut slot) in slots.into_iter().rev() {
            let checksum = Checksum::of(slot.bytes_mut());
            drop(slot.commit(checksum));
        }
        if full {
            break;
        }
    }
    Ok(done)
}

fn load(opened: &Opened, arena: &Arc<Arena>, request: LoadPages) -> Result<PagesLoaded, GpuError> {
    let LoadPages { blocks, skip, pages } = request;
    let rows = rows(&blocks, skip as usize, &pages, opened.copier.cache().ratio());
    let pinned = arena.pin_leading(&blocks);
    let held: Vec<_> =
        rows.into_iter().zip(pinned).map_while(|(row, block)| Some((row, block.into_bytes().ok()?))).collect();
    let pages = held.iter().map(|(row, _)| row.pages.len()).sum::<usize>();
    opened.copier.load(held, Some(opened.ready.as_engine()))?.wait()?;
    Ok(PagesLoaded { pages: u32::try_from(pages).unwrap_or(u32::MAX) })
}

/// A row a block; of the first, `skip` pages are not wanted. What does not fit is refused by the copier.
fn rows(blocks: &[BlockHash], skip: usize, pages: &[u32], ratio: usize) -> Vec<Row> {
    let (front, rest) = pages.split_at(pages.len().min(ratio.saturating_sub(skip)));
    let first = Row { skip, pages: front.to_vec() };
    let others = rest.chunks(ratio).map(|pages| Row { skip: 0, pages: pages.to_vec() });
    std::iter::once(first).chain(others).take(blocks.len()).collect()
}
