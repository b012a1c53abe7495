//! Copies between an engine's KV cache on a GPU and the slots of the arena, over NVIDIA's driver, found at run time.
//!
//! ```text
//!   Found / Absent    what this machine has                        look()
//!   Gpu               a device, its context retained
//!    ├─ Pinned        the arena, registered for direct copies      falls back to pageable memory
//!    ├─ Cache         where an engine's pages lie on the device    borrowed, or opened from another process (ipc)
//!    └─ Copier        batches of copies on streams of their own ──► Arriving: events, layer by layer
//! ```
//!
//! # Invariants
//! - without a driver nothing here is reachable but [`look`], which says so: one binary runs everywhere;
//! - memory that a copy reads or writes is kept, and stays registered, until the copy has ended, whichever way its owner goes;
//! - a copy waits for what the engine had asked of its stream before, and the engine's stream waits for the copy: nothing relies
//!   on who is fast;
//! - at most [`copier::IN_FLIGHT_BYTES_MAX`] are in flight in each direction;
//! - a call that fails is an error that names it, and leaves nothing behind.
//!
//! # Absent on purpose
//! - any kernel: pages that are not contiguous runs are the engine's own business (`docs/gpu.md` counts why);
//! - which block is whose: that is the node's and the connector's.

#![expect(
    unsafe_code,
    reason = "the driver's interface takes raw pointers: calls are in driver.rs, each with what it relies on"
)]

mod cache;
pub mod copier;
mod device;
mod driver;
mod error;
mod event;
mod found;
pub mod ipc;
mod memory;
mod pieces;
mod pinned;
mod stream;

pub use cache::{Cache, CacheError, Layer, Row};
pub use copier::{Arriving, Copier};
pub use device::Gpu;
pub use error::{GpuError, Refused};
pub use event::{EngineEvent, Event};
pub use found::{Absent, DeviceFound, Found, Uuid, look};
pub use memory::DeviceBuffer;
pub use pinned::Pinned;
pub use stream::{EngineStream, Stream};
