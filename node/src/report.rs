//! Telling metadata what this node's holders hold.
//!
//! ```text
//!   arenas ────────► Outbox (Host) ──┐
//!   engine 1 ──────► Outbox (Device) ┼─► Reporter ─► metadata leader ─► acknowledged after commit
//!   engine 2 ──────► Outbox (Device) ┘      ▲
//!   KeepAlive ─── "join again" ─────────────┘
//! ```
//!
//! # Invariants
//! - reports of one grant are numbered from 1 without a gap, and kept until they are acknowledged;
//! - whatever is lost on the way (an overflow, a missing number, a fenced holder) ends in a new grant under which
//!   everything held is reported: the one mechanism of restart, resync and recovery.

mod device;
mod keep_alive;
mod outbox;
mod reporter;

pub(crate) use device::DeviceHeld;
pub(crate) use reporter::{Attached, Reporter, ReporterHandle, Verdict};
