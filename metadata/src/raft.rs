//! What openraft is told about weft: an entry carries the bytes of one command, and applying it gives one outcome.
//!
//! openraft's types stay inside this crate: everybody else speaks `weft-metadata-proto`.

pub(crate) mod mirror;
pub(crate) mod network;
pub(crate) mod serve;
pub(crate) mod wire;

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;
use weft_metadata_state::Outcome;

openraft::declare_raft_types!(
    /// Types of the metadata group.
    pub(crate) Types:
        D = CommandBytes,
        R = Reply,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;

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
