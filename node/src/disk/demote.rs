//! The one thread that writes: it takes what the arenas offer, asks whether it earns its place, and appends it in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use weft_store::disk::format::Space;
use weft_store::disk::{Admission, DiskBlock, DiskWriter};
use weft_store::{Arena, PinnedBlock};

use super::Disk;
use crate::arenas::Arenas;
use crate::metrics::Demotions;

/// Bytes of a batch: 16 MiB, one write. While they are written they stay pinned.
const BATCH_BYTES: u64 = 16 << 20;

/// Blocks of a batch: 256, as many as one write takes.
const BATCH_BLOCKS: u64 = 256;

/// How often the arenas are looked at when nothing is stored: blocks that are only loaded again earn their place too.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Pause after a failed write, for each failure in a row, up to [`FAILURES_COUNTED`].
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Failures in a row that make the pause longer: to half a minute.
const FAILURES_COUNTED: u32 = 30;

/// Wakes the thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<(Rung, Stopped)>,
    rings: Condvar,
}

type Rung = bool;
type Stopped = bool;

impl Bell {
    /// There is something to look at.
    pub(crate) fn ring(&self) {
        self.state.lock().0 = true;
        self.rings.notify_one();
    }

    pub(super) fn stop(&self) {
        self.state.lock().1 = true;
        self.rings.notify_one();
    }

    /// Waits for a ring; `false` when it is over.
    fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.0 && !state.1 {
            self.rings.wait_for(&mut state, at_most);
        }
        state.0 = false;
        !state.1
    }

    /// Waits so long, whoever rings; `false` when it is over.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.1 && !self.rings.wait_until(&mut state, until).timed_out() {}
        !state.1
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().1
    }
}

/// The thread's state.
pub(super) struct Demoter {
    pub(super) disk: Arc<Disk>,
    pub(super) arenas: Arc<Arenas>,
    pub(super) writer: DiskWriter,
    pub(super) admission: Box<dyn Admission>,
    pub(super) metrics: Demotions,
}

impl Demoter {
    /// Writes until it is stopped, or the tier is set aside.
    pub(super) fn run(mut self) {
        let bell = Arc::clone(&self.disk.bell);
        let mut failures = 0_u32;
        while self.disk.tier().is_some() {
            let (offered, failed) = self.round(&bell);
            failures = if failed { (failures + 1).min(FAILURES_COUNTED) } else { 0 };
            let goes_on = match (offered, failed) {
                (_, true) => bell.pause(FAILED_PAUSE * failures),
                (0, false) => bell.wait(LOOK_EVERY),
                (_, false) => !bell.is_stopped(),
            };
            if !goes_on {
                break;
            }
        }
        if let Err(error) = self.writer.seal() {
            tracing::warn!(%error, "the disk tier's last segment stays open: the next start reads it whole");
        }
    }

    /// One batch of each arena: how many blocks were offered, and whether the device failed.
    fn round(&mut self, bell: &Bell) -> (usize, bool) {
        let (mut offered, mut failed) = (0, false);
        for arena in self.arenas.all() {
            if bell.is_stopped() {
                break;
            }
            let bytes = arena.region().geometry().block_bytes;
            let max = usize::try_from((BATCH_BYTES / bytes).clamp(1, BATCH_BLOCKS)).unwrap_or(1);
            let offers = arena.offers(max);
            offered += offers.len();
            let mut admitted = Vec::with_capacity(offers.len());
            for (candidate, pinned) in offers {
                if self.writer.tier().contains(&candidate.block) {
                    self.metrics.present.inc();
                } else if self.admission.admit(&candidate) {
                    admitted.push((candidate.block, pinned));
                } else {
                    self.metrics.unearned.inc();
                }
            }
            failed |= !admitted.is_empty() && !self.append(&arena, admitted);
        }
        (offered, failed)
    }

    fn append(&mut self, arena: &Arena, admitted: Vec<(weft_types::BlockHash, PinnedBlock)>) -> bool {
        let space = Space::of(arena.contract());
        let all = admitted.len() as u64;
        let readable = admitted.into_iter().filter_map(|(block, pinned)| {
            let checksum = pinned.checksum();
            match pinned.into_bytes() {
                Ok(bytes) => Some((block, checksum, bytes)),
                Err(error) => {
                    tracing::error!(%error, ?block, "a complete block is being written: it does not go to disk");
                    None
                }
            }
        });
        let readable: Vec<_> = readable.collect();
        let blocks: Vec<_> = readable
            .iter()
            .map(|(block, checksum, bytes)| DiskBlock {
                block: *block,
                checksum: *checksum,
                space: &space,
                bytes: bytes.as_ref(),
            })
            .collect();
        let outcome = self.writer.append(&blocks);
        self.disk.judge(self.writer.tier(), outcome.is_ok());
        match outcome {
            Ok(done) => {
                self.metrics.stored.inc_by(done.stored as u64);
                self.metrics.present.inc_by(done.present as u64);
                self.metrics.refused.inc_by(done.refused as u64);
                true
            }
            Err(error) => {
                tracing::warn!(%error, blocks = all, "blocks do not go to disk");
                self.metrics.failed.inc_by(all);
                false
            }
        }
    }
}
