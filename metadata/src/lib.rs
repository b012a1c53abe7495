//! The metadata service: a Raft group that agrees on the roster and on which holder has which block.
#![doc = include_str!("../../docs/log-format.md")]

mod error;
mod log;
mod metrics;
mod raft;
mod volume;

pub use error::StoreError;
