//! What the disk tier did, in numbers: flash wears by what is written, so that is counted in bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the tier was opened, but for the wear, which is of the store's whole life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskStats {
    /// Blocks that were taken in.
    pub stored_blocks: u64,
    /// Bytes of their data.
    pub stored_bytes: u64,
    /// Everything that was written to the device: data, padding, headers, footers, blocks written again.
    pub written_bytes: u64,
    /// Blocks that were written again because they were used.
    pub rewritten_blocks: u64,
    /// Bytes of their data.
    pub rewritten_bytes: u64,
    /// Blocks that went with their segment.
    pub evicted_blocks: u64,
    /// Blocks that were read.
    pub read_blocks: u64,
    /// Bytes of their data.
    pub read_bytes: u64,
    /// Blocks that were dropped because what was read was not what was written.
    pub corrupt_blocks: u64,
    /// Calls to the device that failed.
    pub io_errors: u64,
    /// Written to the device over the store's life.
    pub wear_bytes: u64,
}

impl DiskStats {
    /// Bytes written for each byte taken in; 1 would be ideal.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        if self.stored_bytes == 0 { 1.0 } else { self.written_bytes as f64 / self.stored_bytes as f64 }
    }
}

/// The counters, shared by the writer and all readers.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stored_blocks: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) rewritten_blocks: AtomicU64,
    pub(super) rewritten_bytes: AtomicU64,
    pub(super) evicted_blocks: AtomicU64,
    pub(super) read_blocks: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) corrupt_blocks: AtomicU64,
    pub(super) io_errors: AtomicU64,
    /// When the store was opened.
    pub(super) wear_before: u64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> DiskStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStats {
            stored_blocks: get(&self.stored_blocks),
            stored_bytes: get(&self.stored_bytes),
            written_bytes: get(&self.written_bytes),
            rewritten_blocks: get(&self.rewritten_blocks),
            rewritten_bytes: get(&self.rewritten_bytes),
            evicted_blocks: get(&self.evicted_blocks),
            read_blocks: get(&self.read_blocks),
            read_bytes: get(&self.read_bytes),
            corrupt_blocks: get(&self.corrupt_blocks),
            io_errors: get(&self.io_errors),
            wear_bytes: self.wear_before + get(&self.written_bytes),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
