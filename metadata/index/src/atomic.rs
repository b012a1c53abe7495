//! The atomics of what readers and the writer share: those of the standard library, or, for tests that try interleavings
//! (`slab/interleaved_test.rs`), those of shuttle, which may switch threads at each.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
