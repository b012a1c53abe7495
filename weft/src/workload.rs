//! Workloads: requests as traces of block ids, and what they become on the wire.
//!
//! ```text
//!   trace file (JSONL, plain or zstd) ──┐
//!   generator (seeded, fitted) ─────────┴─► rows ─► arrivals ─► expander ─► prompts of token ids, or chat text
//!                                                                   └─────► bound of an infinite cache
//! ```
//!
//! A trace names blocks instead of showing their text: equal ids mean equal tokens. That keeps what matters to a cache, who
//! shares which prefix with whom and when, and nothing that anybody wrote.

mod arrivals;
mod bound;
mod expand;
pub(crate) mod generate;
mod quantiles;
mod trace;

pub(crate) use arrivals::spread;
pub(crate) use bound::{Bound, BoundCounter};
pub(crate) use expand::Expander;
pub(crate) use trace::{Row, SessionId, read, write};
