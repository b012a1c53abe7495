//! A fleet of engines in virtual time: what a routing rule makes of a workload, in seconds instead of hours.
//!
//! ```text
//!  Workload (rows of block ids) ──► World: events in virtual time ──► Run: times to first token, tokens by source, busy time
//!                                     │   ▲
//!                            View ────┤   │ Choice
//!                                     ▼   │
//!             Rule: weft_policy::Fleet itself, other routers' rules, bounds that nobody can reach
//! ```
//!
//! The engine is a model, and a simple one (see [`Engine`]): ratios between rules are what to trust, not seconds.
//!
//! # Invariants
//! - the same setup, workload, rule and seed give the same run;
//! - no rule sees more than a router could: the index as it was `index_lag_s` ago, and what it sent where itself; only the
//!   pooled oracle has a memory that does not exist.
//!
//! # Absent on purpose
//! - chunked prefill, preemption, speculative decoding: they change seconds, and hardly the order of rules;
//! - tokens: a trace names blocks, and that is all a cache and a router care for.

mod device;
mod engine;
mod index;
mod links;
mod order;
mod rules;
mod run;
mod setup;
mod view;
mod workload;
mod world;

pub use rules::{NAMES, rule};
pub use run::{Run, Tokens};
pub use setup::{Engine, Host, Setup};
pub use view::{Choice, EngineView, Peer, Rule, View};
pub use workload::{Request, Turn, Workload};
pub use world::simulate;
