//! Telling metadata what this node's holders hold.
//!
//! ```text
//!   arenas ────────► Outbox (Host) ──┐
//!   disk tier ─────► Outbox (Disk) ──┤
//!   engine 1 ──────► Outbox (Device) ┼─► Reporter ─► metadata leader ─► acknowledged after commit
//!   engine 2 ──────► Outbox (Device) ┘      ▲  ▲
//!   KeepAlive ─── "join again" ─────────────┘  └─ Pace: whose turn it is to be compared
//! ```
//!
//! # Invariants
//! - reports of one grant are numbered from 1 and kept until they are acknowledged; only a *resync* leaves numbers out, and
//!   says so;
//! - what is lost on the way (an overflow, a number that is missing and no longer kept) ends in a resync under the same grant:
//!   what is held is compared with what is listed, and the partitions that differ are replaced;
//! - the same comparison runs on a timer, because what nobody noticed is lost too;
//! - a restart, a fence and a first joining end in a new grant, under which everything held is reported.

mod comparison;
mod device;
mod held;
mod keep_alive;
mod outbox;
mod pace;
mod reporter;

pub(crate) use device::DeviceHeld;
pub(crate) use reporter::{Attached, Own, Reporter, ReporterHandle, Terms, Verdict, refused};
#[cfg(feature = "testing")]
pub(crate) use {
    comparison::{Compared, compare},
    held::Held,
    outbox::{Found, Outbox},
    pace::Pace,
};
