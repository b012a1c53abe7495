//! QUIC between the processes of the fabric: mutual TLS, remote procedures, subscriptions and block streams.

mod blocks;
mod error;
mod fabric;
mod identity;
mod metrics;
mod routes;

pub use blocks::{BlockBytes, BlockRefusal, BlockSink, BlockSource, FetchRequest, FetchSummary};
pub use error::{BindError, CallError, FetchError, Refusal, RefusalCode};
pub use fabric::{Fabric, Profile, Subscription, Target};
pub use identity::{Identity, IdentityError, Peer};
pub use metrics::Metrics;
pub use routes::{PublishError, Publisher, Routes};
