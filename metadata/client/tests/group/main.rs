//! The client against a metadata service on loopback: real directory, real messages, real QUIC and certificates. Only the
//! consensus is left out: the members share one directory, and the test says who leads.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

mod accounts;
mod budget;
mod calls;
mod follower;
mod service;
