//! The prefix index of weft beside the indexes that others publish, on one workload: what `weft bench index` runs, one
//! backend a process.
//!
//! ```text
//!   workload ── events ──► backend ── thread CPU time ─► ns a block
//!          └─── requests ► backend ── each timed ──────► p50, p99, and a sum over every answer
//! ```
//!
//! # Rules
//! - every backend sees the same events and requests in the same order; the sums over their answers must be equal;
//! - every backend is fed in its own best way: hashes are computed, and its own event types built, before the clock runs;
//! - the clock ends when the last event has been applied, whatever queue it went through.

pub mod backend;
mod backends;
pub mod run;
pub mod workload;
