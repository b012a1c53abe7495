//! The arena registered with the driver, so that the device reads and writes its slots itself.
//!
//! A process maps a region twice, to write and to read. The read-only mapping is registered as such where the device can: then
//! not even the device writes through a loaded block. Where it cannot, loads go through the writable mapping of the same memory.

use std::sync::Arc;

use weft_attach::{Region, Span};

use crate::device::Gpu;
use crate::driver;
use crate::error::Refused;

/// Memory registered by one call: 256 MiB, some 50 ms for which the process's memory map is held.
const PIECE_BYTES: usize = 256 << 20;

/// A region, registered if that was possible. It stays mapped, and registered, as long as this is there.
#[derive(Debug)]
pub struct Pinned {
    gpu: Gpu,
    region: Arc<Region>,
    /// Where each registered piece begins.
    pieces: Vec<usize>,
    /// Mappings that are registered whole.
    write: Option<Span>,
    read: Option<Span>,
}

impl Pinned {
    /// Registers a region. Where the driver refuses, a warning says so, and copies go through pageable memory.
    #[must_use]
    pub fn new(gpu: &Gpu, region: &Arc<Region>) -> Self {
        let mut pinned =
            Self { gpu: gpu.clone(), region: Arc::clone(region), pieces: Vec::new(), write: None, read: None };
        let (write, read) = region.spans();
        pinned.write = pinned.register(write, false);
        // What cannot be read through its own mapping is read through the other: see `reach`.
        pinned.read = read.filter(|_| gpu.found().registers_read_only).and_then(|read| pinned.register(read, true));
        if pinned.write.is_some() {
            tracing::info!(
                bytes = write.bytes,
                pieces = pinned.pieces.len(),
                read_only = pinned.read.is_some(),
                "arena pinned"
            );
        }
        pinned
    }

    /// Whether the device reads and writes slots itself.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.write.is_some()
    }

    /// Whether it is of this region.
    #[must_use]
    pub fn is_of(&self, region: &Arc<Region>) -> bool {
        Arc::ptr_eq(&self.region, region)
    }

    /// Where the device is to reach an address of the region; `None` when it is none of the region's.
    pub(crate) fn reach(&self, address: usize) -> Option<usize> {
        let (write, read) = self.region.spans();
        if write.offset(address).is_some() {
            return Some(address);
        }
        let offset = read?.offset(address)?;
        Some(if self.read.is_none() && self.write.is_some() { write.base + offset } else { address })
    }

    /// All of a mapping, or nothing.
    fn register(&mut self, span: Span, read_only: bool) -> Option<Span> {
        let geometry = self.region.geometry();
        // No copy may reach over two registrations: pieces are whole slots.
        let slot = usize::try_from(geometry.slot_bytes).ok()?;
        let piece = (PIECE_BYTES / slot).max(1) * slot;
        let before = self.pieces.len();
        for offset in (0..span.bytes).step_by(piece) {
            let bytes = piece.min(span.bytes - offset);
            let base = span.base + offset;
            if let Err(error) = self.gpu.within(|| driver::register(base, bytes, read_only)) {
                self.unregister(before);
                warn(&error, span.bytes, read_only);
                return None;
            }
            self.pieces.push(base);
        }
        Some(span)
    }

    fn unregister(&mut self, keep: usize) {
        for base in self.pieces.drain(keep..).rev() {
            self.gpu.ending("registration", || driver::unregister(base));
        }
    }
}

fn warn(error: &Refused, bytes: usize, read_only: bool) {
    tracing::warn!(
        %error,
        bytes,
        read_only,
        "the arena is not pinned: copies to and from the GPU go through the driver's own buffers, at a fraction of their speed; \
         allow this process to lock as much memory (ulimit -l, LimitMEMLOCK, a container's memory limit), or make the arena smaller"
    );
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.unregister(0);
    }
}
