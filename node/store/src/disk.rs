//! The disk tier: blocks in append-only segments on local flash, found again after a crash.
//!
//! ```text
//!   DiskWriter ── batches ──► Device (files, direct I/O) ◄── any thread ── DiskTier::read ──► a slot of the arena
//!        │                                                                      ▲
//!        └──────────────► Index: block ─► segment, page ────────────────────────┘
//! ```
//!
//! # Invariants
//! - a block is served only if the record read with it is of this store, this segment and this life of it, names the whole
//!   32-byte hash, the contract and the parts that were asked for, and the data has the checksum its writer made. Any doubt is
//!   a miss: the block is dropped and counted;
//! - nothing is overwritten but whole segments, oldest first, and never one whose footer is older than its data;
//! - the index says only what was written; after a crash it says what was found, and what was torn is cut off;
//! - the device is written by one thread, and read by any number; no lock is held while either waits for it.
//!
//! # Absent on purpose
//! - io_uring: threads that block need no unsafe code. Whether it would be faster has not been measured;
//! - any clock, thread or retry: whoever owns the writer has those;
//! - deleting for good: a block that was removed may be back after a restart, with the bytes that its hash names.

pub mod format;

mod admission;
mod device;
mod index;
mod pages;
mod recovery;
mod stats;
mod tier;
mod writer;

pub use admission::{Admission, AdmitAll, Candidate, SeenTwice};
pub use device::{Device, FileDevice, FileDeviceError, NoopDevice};
pub use pages::{PageBuffer, is_aligned};
pub use stats::DiskStats;
pub use tier::{DiskError, DiskHeld, DiskOptions, DiskTier};
pub use writer::{Appended, DiskBlock, DiskWriter, WriteError};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
