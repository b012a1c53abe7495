//! Reads that wait for the device, so that nobody else has to.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weft_store::disk::DiskTier;

use super::Disk;

/// Threads that read: 16, the depth at which flash gives all it has with reads of a block.
pub(super) const READERS: usize = 16;

/// Reads that may wait: 1,024, two prefixes of 512 blocks. Beyond, a load is served what is here.
const WAITING_MAX: usize = 1_024;

/// A read that takes longer hangs: 2 s, a thousand times what flash needs, and as long as any load waits.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// Something to read; says whether it went well.
pub(super) type Job = Box<dyn FnOnce(&DiskTier) -> bool + Send>;

/// The queue.
pub(super) struct Reads {
    /// `None` once it is closed.
    sender: Mutex<Option<SyncSender<Job>>>,
    clock: Instant,
    hangs_after: Duration,
    /// When each thread began its read, in milliseconds from the beginning, from 1; 0: it waits for one.
    begun: [AtomicU64; READERS],
}

/// The other end of the queue, shared by the threads.
pub(super) type Queue = Arc<Mutex<Receiver<Job>>>;

impl Reads {
    pub(super) fn new() -> (Self, Queue) {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let begun = std::array::from_fn(|_| AtomicU64::new(0));
        let reads = Self { sender: Mutex::new(Some(sender)), clock: Instant::now(), hangs_after: HANGS_AFTER, begun };
        (reads, Arc::new(Mutex::new(receiver)))
    }

    #[cfg(test)]
    pub(super) fn hanging_after(mut self, hangs_after: Duration) -> Self {
        self.hangs_after = hangs_after;
        self
    }

    /// `false`: no room, or closed.
    pub(super) fn submit(&self, job: Job) -> bool {
        let sender = self.sender.lock().clone();
        sender.is_some_and(|sender| sender.try_send(job).is_ok())
    }

    /// Some read takes far too long.
    pub(super) fn hang(&self) -> bool {
        let patience = millis(self.clock.elapsed()).saturating_sub(millis(self.hangs_after));
        self.begun.iter().any(|begun| (1..=patience).contains(&begun.load(Ordering::Relaxed)))
    }

    /// No more; what waits is done still.
    pub(super) fn close(&self) {
        self.sender.lock().take();
    }

    fn begin(&self, reader: usize) {
        self.begun[reader].store(millis(self.clock.elapsed()) + 1, Ordering::Relaxed);
    }

    fn end(&self, reader: usize) {
        self.begun[reader].store(0, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One thread's life.
pub(super) fn read(disk: &Disk, queue: &Queue, reader: usize) {
    loop {
        // Who waits holds the queue: the others wait for it, and take their turns.
        let job = queue.lock().recv();
        let Ok(job) = job else { return };
        // Without a tier it is dropped, with all that waits for it.
        let Some(tier) = disk.tier() else { continue };
        disk.reads.begin(reader);
        let went_well = job(&tier);
        disk.reads.end(reader);
        disk.judge(&tier, went_well);
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("hang", &self.hang()).finish_non_exhaustive()
    }
}
