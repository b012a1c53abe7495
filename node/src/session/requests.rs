//! What an attached engine asks, and what it gets.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use weft_attach::{
    Commit, Committed, Detach, Frame, FrameError, FrameReader, Load, Loaded, LoadedSlot, PagesStored, Reserve,
    Reserved, ReservedBlock, Source, ToEngine, ToNode,
};
use weft_store::{Ledger, PinnedBlock, Reservation};

use super::copies::Copies;
use super::{SessionError, Shared};
use crate::arenas::ArenaLease;
use crate::report::DeviceHeld;

/// Slots that one engine may have reserved: 4,096. Its client reserves 256 at a time.
const RESERVED_MAX: usize = 4096;

/// Loads of one engine that may wait for the disk or for peers: 256, more than a batch has requests. A load beyond is served what is here.
const WAITING_LOADS_MAX: usize = 256;

/// What one engine has of an arena.
pub(super) struct Engine {
    arena: ArenaLease,
    /// `None` once the session has ended: a load that comes back later gives its pins up itself.
    ledger: Arc<Mutex<Option<Ledger>>>,
    device: Arc<Mutex<DeviceHeld>>,
    waiting: Arc<Semaphore>,
    copies: Copies,
}

impl Engine {
    pub(super) fn new(arena: ArenaLease, device: Arc<Mutex<DeviceHeld>>, gpu_copies: bool) -> Self {
        Self {
            copies: Copies::new(gpu_copies, &arena),
            arena,
            ledger: Arc::new(Mutex::new(Some(Ledger::new()))),
            device,
            waiting: Arc::new(Semaphore::new(WAITING_LOADS_MAX)),
        }
    }

    pub(super) fn arena(&self) -> &ArenaLease {
        &self.arena
    }

    /// Waits until nothing is copied from or to its GPU any more.
    pub(super) async fn end_copies(&self) {
        self.copies.clone().end().await;
    }

    /// What it holds, once it asks no more.
    pub(super) fn into_ledger(self) -> (ArenaLease, Ledger) {
        let ledger = self.ledger.lock().take().unwrap_or_default();
        (self.arena, ledger)
    }

    /// Answers requests until the engine detaches or its connection ends.
    pub(super) async fn serve(
        &self,
        shared: &Arc<Shared>,
        frames: &mut FrameReader<impl AsyncRead + Unpin>,
        answers: &mpsc::Sender<Frame>,
    ) -> Result<(), SessionError> {
        loop {
            let frame = frames.read().await?;
            let unexpected = || FrameError::Unexpected { kind: frame.kind };
            let request =
                ToNode::decode(frame.kind, &frame.message).map_err(FrameError::from)?.ok_or_else(unexpected)?;
            let answer = match request {
                ToNode::Reserve(reserve) => Some(self.reserve(shared, &reserve)),
                ToNode::Commit(commit) => Some(self.commit(shared, &commit)?),
                ToNode::Load(load) => self.load(shared, load, frame.call, answers),
                ToNode::Release(release) => {
                    self.with_ledger(|ledger| ledger.release(&mut self.arena.tier(), &release.slots))?;
                    None
                }
                ToNode::Touch(touch) => {
                    self.arena.tier().touch(&touch.blocks);
                    None
                }
                ToNode::DeviceChanged(changed) => {
                    self.device.lock().apply(&changed);
                    if let Some(reporter) = &shared.reporter {
                        reporter.changed();
                    }
                    None
                }
                ToNode::ShareCache(cache) => Some(ToEngine::CacheShared(self.copies.share(*cache).await)),
                ToNode::StorePages(store) => {
                    let store = |shared: Arc<Shared>, copies: Copies| async move {
                        // A node that drains takes nothing.
                        let draining = shared.draining.is_cancelled();
                        let done =
                            if draining { PagesStored::default() } else { copies.store(&shared.metrics, store).await };
                        ToEngine::PagesStored(done)
                    };
                    self.beside(store(Arc::clone(shared), self.copies.clone()), frame.call, answers)
                }
                ToNode::LoadPages(load) => {
                    let copies = self.copies.clone();
                    let load = async move { ToEngine::PagesLoaded(copies.load(load).await) };
                    self.beside(load, frame.call, answers)
                }
                ToNode::Detach(_) => {
                    send(answers, ToEngine::Detach(Detach {}), frame.call).await;
                    return Ok(());
                }
                _ => return Err(unexpected().into()),
            };
            if let Some(answer) = answer.filter(|_| frame.call != 0) {
                send(answers, answer, frame.call).await;
            }
        }
    }

    fn reserve(&self, shared: &Shared, reserve: &Reserve) -> ToEngine {
        let max = if shared.draining.is_cancelled() { 0 } else { RESERVED_MAX };
        let reserved = self.with_ledger(|ledger| ledger.reserve(&mut self.arena.tier(), &reserve.blocks, max));
        let answer = |reservation: &Reservation| match reservation {
            Reservation::Granted(slot) => ReservedBlock::Slot(*slot),
            Reservation::Present | Reservation::Pending => ReservedBlock::Present,
            Reservation::Full => ReservedBlock::Full,
        };
        let blocks: Vec<_> = reserved.iter().map(answer).collect();
        let refused = blocks.iter().filter(|block| **block == ReservedBlock::Full).count();
        shared.metrics.refused_blocks.inc_by(refused as u64);
        ToEngine::Reserved(Reserved { blocks })
    }

    fn commit(&self, shared: &Shared, commit: &Commit) -> Result<ToEngine, SessionError> {
        let slots: Vec<_> = commit.slots.iter().map(|slot| (slot.slot, slot.checksum)).collect();
        let blocks = self.with_ledger(|ledger| ledger.commit(&mut self.arena.tier(), &slots))?;
        shared.metrics.stored_blocks.inc_by(blocks as u64);
        shared.metrics.stored_bytes.inc_by(blocks as u64 * self.arena.region().geometry().block_bytes);
        Ok(ToEngine::Committed(Committed { blocks: u32::try_from(blocks).unwrap_or(u32::MAX) }))
    }

    /// Answers at once what is here whole, or when nobody can be asked; otherwise later, from a task.
    fn load(&self, shared: &Arc<Shared>, load: Load, call: u32, answers: &mpsc::Sender<Frame>) -> Option<ToEngine> {
        let deadline = Instant::now() + Duration::from_micros(load.deadline_us).min(Duration::from_secs(3600));
        let mut run: Vec<_> =
            self.arena.pin_leading(&load.blocks).into_iter().map(|block| (block, Source::Host)).collect();
        let fetcher = shared.fetcher.as_ref().filter(|_| run.len() < load.blocks.len());
        let (Some(fetcher), Ok(permit)) = (fetcher, Arc::clone(&self.waiting).try_acquire_owned()) else {
            return Some(loaded(shared, &self.ledger, run, load.blocks.len()));
        };
        let (shared, fetcher, arena) = (Arc::clone(shared), Arc::clone(fetcher), Arc::clone(&self.arena));
        let (ledger, answers) = (Arc::clone(&self.ledger), answers.clone());
        tokio::spawn(async move {
            let _permit = permit;
            fetcher.extend(&arena, &load.blocks, &mut run, deadline).await;
            send(&answers, loaded(&shared, &ledger, run, load.blocks.len()), call).await;
        });
        None
    }

    /// Answers from a task, when it is done. Copies are bounded by who makes them, answers by who reads them.
    #[expect(clippy::unused_self, reason = "beside `load`, which does the same")]
    fn beside(
        &self,
        work: impl Future<Output = ToEngine> + Send + 'static,
        call: u32,
        answers: &mpsc::Sender<Frame>,
    ) -> Option<ToEngine> {
        let answers = answers.clone();
        tokio::spawn(async move { send(&answers, work.await, call).await });
        None
    }

    fn with_ledger<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        act(self.ledger.lock().get_or_insert_default())
    }
}

/// The answer to a load; its pins go to the engine.
fn loaded(shared: &Shared, ledger: &Mutex<Option<Ledger>>, run: Vec<(PinnedBlock, Source)>, asked: usize) -> ToEngine {
    let metrics = &shared.metrics;
    let from = |wanted| run.iter().filter(|(_, source)| *source == wanted).count() as u64;
    metrics.loaded_host_blocks.inc_by(from(Source::Host));
    metrics.loaded_disk_blocks.inc_by(from(Source::Disk));
    metrics.loaded_peer_blocks.inc_by(from(Source::Peer));
    metrics.missed_blocks.inc_by((asked - run.len()) as u64);
    let blocks = match ledger.lock().as_mut() {
        Some(ledger) => {
            run.into_iter().map(|(block, source)| LoadedSlot { slot: ledger.adopt(block), source }).collect()
        }
        None => Vec::new(),
    };
    ToEngine::Loaded(Loaded { blocks })
}

async fn send(answers: &mpsc::Sender<Frame>, answer: ToEngine, call: u32) {
    // The writer is gone only when the connection is.
    drop(answers.send(Frame::new(answer.encode(), call)).await);
}
