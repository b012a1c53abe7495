//! The node daemon: keeps KV blocks in shared memory, for its engines and for its peers.
//!
//! ```text
//!   engines ── unix socket ──► Session ──► Arenas (host tier) ◄── HostBlocks ◄── QUIC ── peers
//!                                 │            │    ▲
//!                                 │  changes ──┘    │ lands in
//!                                 ▼                 │
//!                              Fetcher ── lookup ─► Directory, then peers
//!                                 └── first ─► Disk ◄── what is used, or about to leave, from the arenas
//!   caches ── Redis protocol ──► resp ──► Arenas, Fetcher
//!                              Reporter ──────────► metadata: join, endpoints, reports
//!                                 └────────────────── Events ◄── KV-cache events of engines: what their devices hold
//!   operators ── QUIC ──► Inventory, Clear ─► Arenas, but for what leases pin ◄── followed from metadata
//! ```
//!
//! # Invariants
//! - a block is served only if all 32 bytes of its hash agree; what came from a peer or from disk was checked against its
//!   writer's checksum before it could be found;
//! - engines never wait for metadata but at a first attach, and then two seconds at most;
//! - what a lease pins is not evicted, as long as leases pin no more than half of a contract's memory here;
//! - whatever fails, costs one deadline and then nothing for a while, and ends in a miss.
//!
//! # Absent on purpose, until their issues come
//! - an object tier, adoption of regions over a restart, the arbiter that compares fetching with computing, tenants.

mod arenas;
mod boot;
mod breaker;
mod clear;
mod config;
mod directory;
mod disk;
mod events;
mod fetch;
mod inventory;
mod leases;
mod metrics;
mod node;
mod quarantine;
mod report;
mod resp;
mod roll;
#[cfg(test)]
mod sample;
mod serve;
mod session;
#[cfg(feature = "testing")]
pub mod testing;

pub use boot::BootError;
pub use clear::{Clear, ClearRequest, ClearResponse};
pub use config::{Config, DiskAdmission, DiskConfig, EngineConfig, ServesConfig};
pub use disk::DiskFault;
pub use events::EventsFault;
pub use inventory::{Inventory, InventoryRequest, InventoryResponse};
pub use node::{BindError, Node};
pub use resp::{RespConfig, RespFault, RespTls, RespUser};
