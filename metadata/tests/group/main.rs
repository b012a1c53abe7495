//! Three members in one process, over real QUIC on loopback and real files, each on a runtime of its own that can be
//! killed.
#![expect(clippy::unwrap_used, reason = "this is a test, harness and all")]

mod access;
mod catch_up;
mod cluster;
mod expiry;
mod failover;
mod leases;
mod log_bytes;
mod members;
mod reports;
mod revive;
mod watch;
