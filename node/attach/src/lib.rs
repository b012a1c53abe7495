//! Where an engine and its node daemon touch: shared memory, and the unix socket that hands it over.
//!
//! ```text
//!   engine process                                   node daemon
//!   ┌───────────────┐   Hello ─────────────────────►  ┌──────────────┐
//!   │ Region (open) │   ◄── Welcome + 2 descriptors   │ Region       │
//!   │  rw │ ro      │   Reserve/Commit, Load/Release  │ (created)    │
//!   └──┬──┴──┬──────┘                                 └──────┬───────┘
//!      └─────┴──────────── the same memfd ──────────────────┘
//! ```
//!
//! # Invariants
//! - this is the only crate of the node that holds raw pointers; what it offers is safe to call;
//! - inside one process, a slot has one [`SlotWriter`] or any number of [`SlotReader`]s, never both: a word per slot
//!   says so, and a borrow that would break it is refused;
//! - between processes the daemon's protocol says it: a slot has one writer between *reserve* and *commit*, and only
//!   readers while it is pinned. Processes that were handed the writable descriptor could break that: engines that
//!   share a region trust each other. This is the residual trust of the design;
//! - a mapping outlives the daemon that made it, so a loaded block stays readable whatever happens to the daemon.
//!
//! # Absent on purpose
//! - which block lies in which slot, who pinned what: that is `weft-store`;
//! - any retry, reconnect or timeout: those are the callers' policy.

#![expect(
    unsafe_code,
    reason = "mapping memory is this crate's purpose; raw memory is in mapping.rs and borrowed by region.rs alone"
)]

mod frame;
mod geometry;
mod listener;
mod mapping;
mod message;
mod pages;
mod peer;
mod region;

pub use frame::{Frame, FrameError, FrameReader, FrameWriter, recv_with_descriptors, send_with_descriptors};
pub use geometry::{Geometry, GeometryError, SlotIndex};
pub use listener::{ListenError, SocketPolicy, listen};
pub use message::{
    AttachmentId, BLOCKS_PER_MESSAGE_MAX, Commit, CommitSlot, Committed, Detach, DeviceChanged, Draining, Hello, Kind,
    Load, Loaded, LoadedSlot, Refused, Release, Reserve, Reserved, ReservedBlock, SlotRef, Source, ToEngine, ToNode,
    Touch, VERSION, Welcome,
};
pub use pages::{CacheShared, LoadPages, PagesLoaded, PagesStored, SharedCache, StorePages};
pub use peer::PeerProcess;
pub use region::{BorrowError, Region, RegionError, SlotReader, SlotWriter, Span};
