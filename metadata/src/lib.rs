//! The metadata service: a Raft group that agrees on the roster and on which holder has which block.
//!
//! ```text
//!          nodes, routers, operators                    other members
//!                    │ methods 20–49                          ▲ methods 1–6
//!   Fabric ──────────┼────────────────────────────────────────┤
//!                    ▼                                        ▼
//!   service  joins · reports folded · liveness · watch ─ group ─ openraft ─┬─► log      (durable, one sync a batch)
//!                    ▲                                                   └─► machine  (Directory, snapshots)
//!                    └──────────── lookups, change feed ◄───────────────────────┘
//! ```
//!
//! # Invariants
//! - what was acknowledged is committed: durable on a majority, and applied here;
//! - openraft's types stay inside; everybody else speaks `weft-metadata-proto`;
//! - a request says nothing about who sent it that its certificate does not prove.
//!
//! # Decided here
//! - **One port.** Raft and the service share the fabric's UDP port and the process's runtime: a member moves no KV bytes, so
//!   nothing bulky is in Raft's way. What blocks runs elsewhere: the log's writer on a thread of its own, snapshots and reads
//!   from disk on the blocking pool.
//! - **Hand-over of our own.** openraft 0.9 cannot pass leadership on; three of its steps in the right order can. Draining
//!   the leader costs a few syncs instead of an election.
//! - **Standing at once.** In openraft 0.9 a member that refuses a candidate with less of the log waits for its own time-out, and
//!   often loses that election to the first one's higher vote. Here it stands as soon as it has refused (`raft/stand.rs`).
//!
//! Files on disk:
#![doc = include_str!("../../docs/log-format.md")]

mod allegiance;
mod config;
mod error;
mod forming;
mod group;
mod handover;
mod log;
mod machine;
mod member;
mod members;
mod metrics;
mod raft;
mod revive;
mod runtime;
mod service;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod volume;

pub use config::{Config, ConfigError, RaftConfig, SnapshotConfig, WalConfig};
pub use error::StoreError;
pub use member::{BindError, Metadata};
pub use revive::{ReviveError, Revived, check_backup, recover, restore};
