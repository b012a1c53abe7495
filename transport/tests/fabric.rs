//! Real QUIC on loopback: calls, subscriptions and block streams between two fabrics.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

#[path = "fabric/world.rs"]
mod world;

#[path = "fabric/blocks.rs"]
mod blocks;
#[path = "fabric/calls.rs"]
mod calls;
#[path = "fabric/credentials.rs"]
mod credentials;
#[path = "fabric/deaths.rs"]
mod deaths;
#[path = "fabric/subscriptions.rs"]
mod subscriptions;
