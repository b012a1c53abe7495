//! The replicated directory: which node, endpoint and holder is who, and which holder holds which block. Pure.
//!
//! ```text
//!   log ── Command ──► Directory::apply ──► Outcome            to the caller
//!                              └──────────► DirectoryChange…   to followers, in log order
//! ```
//!
//! Every replica applies the same commands in the same order and must come to the same state and outcomes.
//! So nothing here reads a clock (time is a [`LogTime`](weft_types::LogTime) that the leader stamped into the command),
//! rolls dice, or iterates anything whose order is not its keys'.
//!
//! # Invariants
//! - a lookup names only holders that are granted now: one retire command masks everything a holder had;
//! - a report is applied once, in the order of its number, and only if it comes from the current life of its holder;
//! - a holder number is granted again only after the sweep has removed the last entry of its former life;
//! - a lease lasts until its end, is never over its tenant's budget, and an operator's request is done once however often it
//!   comes;
//! - all who serve one model key agree on its contract.
//!
//! # Absent on purpose
//! - liveness: who is alive is known to the leader's memory, and a death arrives here as [`Command::Expire`];
//! - enforcement of quotas and leases: the directory says what was agreed, and nodes keep to it;
//! - eviction: lookups are not in the log, so the directory cannot know what is worth keeping. It refuses what would pass
//!   its [`Limits`], and counts it.
//!
//! The bytes of commands and snapshots:
#![doc = include_str!("../../../docs/metadata-format.md")]

mod accounts;
mod anew;
mod command;
mod contracts;
mod digests;
mod directory;
mod endpoints;
mod limits;
mod nodes;
mod numbers;
mod operate;
mod outcome;
mod reports;
mod snapshot;

pub use accounts::{Accounts, Leases, Revocation, Tenants};
pub use command::{Command, CommandError};
pub use directory::Directory;
pub use limits::Limits;
pub use outcome::{Applied, Outcome};
pub use snapshot::{FrozenDirectory, SnapshotError};
pub use weft_index::{DirectoryChange, ReportAck};
