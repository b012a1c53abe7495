//! QUIC between the processes of the fabric: mutual TLS, calls, subscriptions and block streams.
//!
//! ```text
//!             caller                                                       server
//!  call ─┐                                                                              ┌─► route ─► handler
//!  subscribe ─┤► pool ─► dial ─► TLS 1.3, both certificates ─► Hello ─► stream ─► accept ─┤
//!  fetch ─┘   (one connection a target, one dial at a time)   versions                  └─► block source
//! ```
//! A [`Fabric`] is one UDP socket: it calls ([`Fabric::call`], [`Fabric::subscribe`], [`Fabric::fetch`]) and serves
//! ([`Fabric::serve`] with [`Routes`]). A [`Profile`] says what it is tuned for. What goes over the wire is in
//! `weft-transport-proto`; this crate moves it.
//!
//! # Invariants
//! - nobody is talked to before the cluster's CA vouches for them and their SAN URI is of this cluster; a caller also checks
//!   role and name, a route checks the caller's role;
//! - a connection ends with the shorter of its two certificates, and as soon as one is on the deny list ([`Credentials`]);
//! - a refused peer is a `warn` line on both sides, with what was presented, what was expected and what to do;
//! - a call ends by its deadline, whatever the peer does; dropping it resets its stream, and the handler on the other side is
//!   dropped with it;
//! - a block that a sink was told is complete has the checksum that its writer gave it.
//!
//! # Bounds
//! Streams a connection, connections, calls, subscriptions and fetches served at a time, and every length: each a named
//! constant beside its use. What passes one is a typed refusal.

mod blocks;
mod credentials;
mod dial;
mod error;
mod exchange;
mod fabric;
mod fetch;
mod hello;
mod identity;
#[cfg(feature = "testing")]
pub mod memory;
mod metrics;
mod peer;
mod pool;
mod profile;
mod refusals;
mod routes;
mod server;
mod socket;
mod standing;
mod subscription;
mod tls;
mod trust;
mod wire;

pub use blocks::{BlockBytes, BlockSink, BlockSource, Bringing, FetchRequest, FetchSummary};
pub use credentials::{Credentials, RenewError};
pub use error::{BindError, CallError, FetchError};
pub use fabric::{Fabric, Target};
pub use identity::{Identity, IdentityError};
pub use metrics::Metrics;
pub use peer::{NotAWeftCertificate, Peer};
pub use profile::{Profile, Tuning};
pub use routes::Routes;
pub use subscription::{PublishError, Publisher, Subscription};
pub use weft_transport_proto::{BlockRefusal, ProtocolError, Refusal, RefusalCode};
