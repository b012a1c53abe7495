//! The disk tier of a node: opened behind its back, written by one thread, read by a few.
//!
//! ```text
//!   arenas ── used, leased, or about to make room ─► Demoter (a thread) ── admission ─► DiskTier
//!   a load that misses host memory ─► Reads (a queue) ─► readers (threads) ── straight into a slot ─► arena
//! ```
//!
//! # Invariants
//! - nobody but these threads waits for the device: a load waits for a read as it waits for a peer, until its deadline;
//! - a read that hangs costs those who wait for it their deadline, and then nothing: while it hangs no other is begun;
//! - a device that fails again and again is set aside: its blocks are reported as gone, and it is left alone until the next
//!   start;
//! - until the tier is open it holds nothing, as far as anybody is told, and the node serves without it.

mod demote;
mod reads;
mod start;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use weft_store::disk::{DiskHeld, DiskStats, DiskTier};
use weft_store::{LeasedKeys, TierChange};
use weft_types::{BlockHash, ByteSize};

pub(crate) use self::demote::Bell;
use self::reads::Reads;
pub use self::start::DiskFault;
pub(crate) use self::start::start;

/// Failures of the device in a row after which it is set aside: 8. One bad sector costs its block; a device that is gone fails
/// every time.
const FAULTS_MAX: u64 = 8;

/// A node's disk tier.
pub(crate) struct Disk {
    capacity: ByteSize,
    state: RwLock<State>,
    reads: Reads,
    bell: Arc<Bell>,
    /// Failures of the device since it last did as it was told.
    faults: AtomicU64,
    /// Those of them that the tier had counted when it was last looked at.
    io_errors: AtomicU64,
    /// What was held is gone, and the reporter has not been told.
    lost: AtomicBool,
    /// What leases pin.
    leased: Mutex<Arc<LeasedKeys>>,
    changed: Arc<dyn Fn() + Send + Sync>,
}

enum State {
    Opening,
    Open(Arc<DiskTier>, Duration),
    /// It cannot be used; what it did until then.
    Aside(DiskStats),
    Closed,
}

/// What becomes of a disk tier, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// What is on disk is being read.
    Opening,
    /// In use.
    Open,
    /// Not in use until the next start: the device failed, or the folder is another node's.
    Aside,
    /// The node goes.
    Closed,
}

impl Phase {
    /// Every phase.
    pub(crate) const ALL: [Self; 4] = [Self::Opening, Self::Open, Self::Aside, Self::Closed];

    /// A word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Aside => "aside",
            Self::Closed => "closed",
        }
    }
}

impl Disk {
    fn new(capacity: ByteSize, bell: Arc<Bell>, reads: Reads, changed: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            capacity,
            state: RwLock::new(State::Opening),
            reads,
            bell,
            faults: AtomicU64::new(0),
            io_errors: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            leased: Mutex::default(),
            changed,
        }
    }

    /// Disk space it was given.
    pub(crate) fn capacity(&self) -> ByteSize {
        self.capacity
    }

    /// Where it is.
    pub(crate) fn phase(&self) -> Phase {
        match &*self.state.read() {
            State::Opening => Phase::Opening,
            State::Open(..) => Phase::Open,
            State::Aside(_) => Phase::Aside,
            State::Closed => Phase::Closed,
        }
    }

    /// The tier, while it is in use.
    pub(crate) fn tier(&self) -> Option<Arc<DiskTier>> {
        match &*self.state.read() {
            State::Open(tier, _) => Some(Arc::clone(tier)),
            _ => None,
        }
    }

    /// The tier, if it can be read now.
    pub(crate) fn readable(&self) -> Option<Arc<DiskTier>> {
        self.tier().filter(|_| !self.hangs())
    }

    /// Some read takes far too long.
    pub(crate) fn hangs(&self) -> bool {
        self.reads.hang()
    }

    /// What it holds, in numbers; nothing unless it is in use.
    pub(crate) fn held(&self) -> DiskHeld {
        self.tier().map(|tier| tier.held()).unwrap_or_default()
    }

    /// What it did, and how long it took to open; `None` while it is being opened.
    pub(crate) fn did(&self) -> Option<(DiskStats, Option<Duration>)> {
        match &*self.state.read() {
            State::Open(tier, took) => Some((tier.stats(), Some(*took))),
            State::Aside(stats) => Some((*stats, None)),
            State::Opening | State::Closed => None,
        }
    }

    /// Has `job` read from the tier, on a thread that may wait; it says whether that went well. `false` when too many wait
    /// already: then it is dropped.
    pub(crate) fn read(&self, job: impl FnOnce(&DiskTier) -> bool + Send + 'static) -> bool {
        self.reads.submit(Box::new(job))
    }

    /// What changed since this was last called; `None` when that was too much to keep, and [`Disk::cut`] has to be asked.
    pub(crate) fn take_changes(&self) -> Option<Vec<TierChange>> {
        match self.tier() {
            Some(tier) => tier.take_changes(),
            None => (!self.lost.swap(false, Ordering::Relaxed)).then(Vec::new),
        }
    }

    /// Gives everything that is held to `each`, and takes the changes that led there: both as of one moment.
    pub(crate) fn cut(&self, each: impl FnMut(BlockHash)) -> Option<Vec<TierChange>> {
        match self.tier() {
            Some(tier) => tier.cut(each),
            None => {
                self.lost.store(false, Ordering::Relaxed);
                Some(Vec::new())
            }
        }
    }

    /// From now on these are the blocks that leases pin.
    pub(crate) fn set_leased(&self, leased: Arc<LeasedKeys>) {
        let mut current = self.leased.lock();
        *current = Arc::clone(&leased);
        if let Some(tier) = self.tier() {
            tier.set_leased(leased);
        }
    }

    fn open(&self, tier: Arc<DiskTier>, took: Duration) {
        let leased = self.leased.lock();
        tier.set_leased(Arc::clone(&leased));
        let mut state = self.state.write();
        if matches!(*state, State::Opening) {
            *state = State::Open(tier, took);
        }
        drop((state, leased));
        (self.changed)();
    }

    /// Looks at how the device does, after it did something or failed to.
    fn judge(&self, tier: &DiskTier, went_well: bool) {
        let errors = tier.stats().io_errors;
        let more = errors.saturating_sub(self.io_errors.fetch_max(errors, Ordering::Relaxed));
        if more > 0 {
            if self.faults.fetch_add(more, Ordering::Relaxed) + more >= FAULTS_MAX {
                self.set_aside(tier.stats());
            }
        } else if went_well {
            self.faults.store(0, Ordering::Relaxed);
        }
    }

    fn set_aside(&self, stats: DiskStats) {
        let mut state = self.state.write();
        if matches!(*state, State::Opening | State::Open(..)) {
            tracing::error!("the disk tier is set aside until the next start, with all its blocks: look at its device");
            *state = State::Aside(stats);
            self.lost.store(true, Ordering::Relaxed);
        }
        drop(state);
        (self.changed)();
    }

    fn stop(&self) {
        self.bell.stop();
        self.reads.close();
    }

    /// Lets go of the tier, and its folder with it. One that was set aside says so for as long as anybody looks.
    fn close(&self) {
        let mut state = self.state.write();
        if !matches!(*state, State::Aside(_)) {
            *state = State::Closed;
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("capacity", &self.capacity).field("phase", &self.phase()).finish_non_exhaustive()
    }
}
