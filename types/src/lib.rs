//! The words every part of weft says: identities, block hashes, model keys, tiers, sizes, and the one codec.
//!
//! Nothing here opens a socket, reads a clock or knows a role. Two rules hold for every type of this crate:
//! - one idea has one name and one type: a function that takes two integers of different meaning takes two types;
//! - what is written to a wire or a disk is written through [`codec`], or as a fixed layout in the crate that owns it.

pub mod codec;
pub mod rpc;

mod api_key;
mod audit;
mod block;
mod checksum;
mod contract;
mod ids;
mod lease;
mod model;
mod name;
mod operator;
mod role;
mod roster;
mod serial;
mod size;
mod tenant;
mod tier;
mod time;

pub use api_key::{ApiKey, KeyHash, ParseApiKeyError, ParseKeyHashError};
pub use audit::{Asker, AuditEntry, AuditOutcome};
pub use block::{BlockHash, IndexKey, ParseHashError};
pub use checksum::{Checksum, RunningChecksum};
pub use contract::{Contract, ContractConflict, ContractId, Part, PartId};
pub use ids::{
    EndpointId, Generation, GroupId, HolderId, HolderKey, Incarnation, KeyId, LeaseId, MemberId, NodeId, RequestId,
    ShardId, TenantId,
};
pub use lease::Lease;
pub use model::{BlockHasher, Chain, ExtraKeys, ModelKey};
pub use name::{Name, ParseNameError};
pub use operator::{Operated, OperatorAction};
pub use role::{ParseRoleError, Role};
pub use roster::{EndpointSpec, HolderGrant, NodeSpec, Roster};
pub use serial::{ParseSerialError, Serial};
pub use size::{BlockSize, ByteSize, ParseSizeError};
pub use tenant::{PublicPrefix, Salt, SharingGroup, Tenant, TenantSecrets, TenantSettings};
pub use tier::Tier;
pub use time::LogTime;
