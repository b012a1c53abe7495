//! What an engine links: attach to the node daemon, load and store blocks through shared memory. No QUIC in it.
//!
//! ```text
//!   store   reserve ──► copy into the slot ──► checksum ──► commit      one round trip a batch each
//!   load    pin     ──► read in place      ──► drop: release, batched
//! ```
//!
//! # Invariants
//! - weft never makes an engine wait: every call has a deadline, a daemon that is gone or hangs costs one deadline and
//!   then nothing, until it answers again;
//! - weft never makes an engine fail: a load that cannot be had is a miss, a store that cannot be made is refused;
//! - a [`LoadedBlock`] is readable as long as it lives, whatever happens to the daemon: the mapping is ours, and while the
//!   daemon lives the pin keeps the slot from being written. A restarted daemon has a region of its own, so that an old
//!   mapping is never read as new.
//!
//! # Absent on purpose
//! - policy: what to store and when to load is the engine's.

mod client;
mod device;
mod error;
mod link;
mod loaded;
mod pages;
mod silence;
mod store;
mod supervisor;

pub use client::{AttachConfig, NodeClient};
pub use error::AttachError;
pub use loaded::{LoadSource, LoadedBlock};
pub use store::Stored;
