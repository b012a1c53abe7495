//! The words every part of weft says: identities, block hashes, model keys, tiers, sizes, and the one codec.
//!
//! Nothing here opens a socket, reads a clock or knows a role. Two rules hold for every type of this crate:
//! - one idea has one name and one type: a function that takes two integers of different meaning takes two types;
//! - what is written to a wire or a disk is written through [`codec`], or as a fixed layout in the crate that owns it.

pub mod codec;
pub mod rpc;

mod block;
mod checksum;
mod contract;
mod ids;
mod model;
mod name;
mod role;
mod roster;
mod size;
mod tier;
mod time;

pub use block::{BlockHash, IndexKey, ParseHashError};
pub use checksum::Checksum;
pub use contract::{Contract, ContractConflict, ContractId, Part, PartId};
pub use ids::{EndpointId, Generation, HolderId, HolderKey, Incarnation, LeaseId, MemberId, NodeId, ShardId, TenantId};
pub use model::{BlockHasher, Chain, ExtraKeys, ModelKey};
pub use name::{Name, ParseNameError};
pub use role::{ParseRoleError, Role};
pub use roster::{EndpointSpec, HolderGrant, NodeSpec, Roster};
pub use size::{BlockSize, ByteSize, ParseSizeError};
pub use tier::Tier;
pub use time::LogTime;
