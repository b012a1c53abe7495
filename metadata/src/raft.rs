//! What openraft is told about weft: an entry carries the bytes of one command, and applying it gives one outcome.
//!
//! openraft's types stay inside this crate: everybody else speaks `weft-metadata-proto`.

pub(crate) mod handover;
pub(crate) mod hello;
pub(crate) mod mirror;
pub(crate) mod network;
mod outgoing;
pub(crate) mod serve;
mod stand;
pub(crate) mod wire;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use weft_metadata_state::Outcome;

use crate::machine::snapshot::SnapshotFile;

openraft::declare_raft_types!(
    /// Types of the metadata group.
    pub(crate) Types:
        D = CommandBytes,
        R = Reply,
        Node = MemberNode,
        AsyncRuntime = crate::runtime::Runtime,
        SnapshotData = SnapshotFile,
);

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Membership = openraft::Membership<u64, MemberNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, MemberNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, MemberNode>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<u64, MemberNode>;

/// What the group agrees on about each of its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemberNode {
    /// Fabric address.
    pub(crate) addr: SocketAddr,
    /// Which data directory the member keeps its promises in. One that comes back with another has forgotten them, and is
    /// not let in under its old id.
    pub(crate) disk: DiskId,
}

/// A data directory, for ever: drawn at random when it is first used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct DiskId(pub(crate) u64);

impl DiskId {
    /// One that no other directory has.
    pub(crate) fn draw() -> Self {
        Self(crate::runtime::random())
    }
}

/// A group, for ever: drawn at random when it is formed, or made anew of an old state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct LineageId(pub(crate) u64);

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

// openraft asks for one; nothing of ours does.
impl Default for MemberNode {
    fn default() -> Self {
        Self { addr: (Ipv4Addr::UNSPECIFIED, 0).into(), disk: DiskId::default() }
    }
}

/// An encoded [`weft_metadata_state::Command`]: encoded once by the leader, decoded once by each member's `apply`, and
/// cheap to clone in between.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CommandBytes(pub(crate) Bytes);

/// What applying an entry gave: `None` for openraft's own entries (blank, membership).
#[derive(Clone, Debug)]
pub(crate) struct Reply(pub(crate) Option<Outcome>);

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandBytes({} bytes)", self.0.len())
    }
}

/// A log id from its parts.
pub(crate) fn log_id(term: u64, leader: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, leader), index)
}
