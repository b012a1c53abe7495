//! The router: an OpenAI surface in front of the engines, which sends each request where its prefix is cheapest to have.
//!
//! ```text
//!  client ──► Server ──► Gateway ──► key → tenant ──► body (bounded) ──► model ──► prompt: tokens → block keys → who holds how much
//!                           │                                            │
//!                           │                          weft_policy::Fleet::decide ──► endpoint
//!                           └──► Upstream ──► engine ──► Relay ──► client, byte for byte
//!
//!  Roster (metadata's, and static endpoints) ──► Models: name → endpoints            Prober ──► health
//! ```
//!
//! # Invariants
//! - the bytes of a request body and of an answer pass through unchanged; only headers are added, and the tenant's `cache_salt` is
//!   put into the body;
//! - what a caller may see and hit is decided by its API key: a salt that it sends, or a key of ours, goes no further;
//! - whoever stops listening stops the work: a client that goes takes its request to the engine with it;
//! - nothing was sent to a client yet when a request is tried a second time, and there is no third;
//! - every body, queue and wait has a bound in [`Limits`], and an OpenAI-shaped answer when it is reached.
//!
//! # Absent on purpose
//! - state worth keeping: a router that dies loses what it had in flight, and nothing else.

mod admission;
mod answer;
mod callers;
mod config;
mod console;
mod endpoint;
mod explain;
mod ext_proc;
mod gateway;
mod health;
mod history;
mod metrics;
mod models;
mod prints;
mod prompt;
mod published;
mod relay;
mod residency;
mod router;
mod scan;
mod server;
mod stall;
mod upstream;
mod usage;

/// What is fuzzed from outside (`fuzz/`).
#[cfg(feature = "testing")]
pub mod testing {
    use bytes::Bytes;

    use crate::scan::Scan;

    /// The body with this `cache_salt` and no other; `None`: a caller is told that it cannot be.
    #[must_use]
    pub fn salted(body: &[u8], salt: &str) -> Option<Bytes> {
        let scan = Scan::parse(body).ok()?;
        Some(scan.salted(&Bytes::copy_from_slice(body), Some(salt)))
    }
}

pub use admission::{AdmissionConfig, TenantShare};
pub use callers::{KeyFileError, Keyless, KeysConfig};
pub use config::{Config, EndpointConfig, HealthConfig, InvalidConfig, Limits, ModelConfig};
pub use ext_proc::ExtProcConfig;
pub use published::KvEventsConfig;
pub use residency::Residency;
pub use router::{BindError, Router};
pub use weft_policy::{Policy, Priority, Priors};
