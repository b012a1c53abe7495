//! The replicated directory: command in, outcome and changes out. Pure; every replica computes the same.
use weft_index::{Match, PrefixIndex, Report};
use weft_types::{
    ContractConflict, EndpointId, EndpointSpec, HolderGrant, HolderId, Incarnation, IndexKey, LogTime, NodeId,
    NodeSpec, Roster,
};

/// What the log carries. `at` is the leader's stamp.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// A node daemon joins, or joins again under a later incarnation (its old holders are retired).
    Join {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeSpec,
    },
    /// It leaves properly.
    Leave {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// Its liveness lease ran out.
    Expire {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeId,
        /// Which life of it: a later one is not touched.
        incarnation: Incarnation,
    },
    /// An engine replica appears or changes.
    PutEndpoint {
        /// Stamp.
        at: LogTime,
        /// Who.
        endpoint: EndpointSpec,
    },
    /// It is gone.
    RemoveEndpoint {
        /// Stamp.
        at: LogTime,
        /// Who.
        endpoint: EndpointId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// What the leader folded from all nodes.
    Reports {
        /// Stamp.
        at: LogTime,
        /// In arrival order.
        reports: Vec<Report>,
    },
    /// Removes entries of retired holders in a bounded step.
    Sweep {
        /// Stamp.
        at: LogTime,
        /// Keys to look at.
        budget: u32,
    },
}

/// What the caller is told.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// Holder numbers for every tier or rank.
    Granted(Vec<HolderGrant>),
    /// A contract disagrees.
    Conflict(ContractConflict),
    /// Refused, with fault and remedy (a stale incarnation, a bound reached).
    Refused(String),
    /// One for each report, in order.
    Reports(Vec<ReportOutcome>),
}

/// What became of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportOutcome {
    /// Applied now or before; every number up to this one is.
    Applied {
        /// Highest number applied.
        number: u64,
    },
    /// A number is missing: send again from `expected`, or resync.
    Gap {
        /// The next number that would be applied.
        expected: u64,
    },
    /// The holder was retired, or the incarnation is not current: join again.
    Fenced,
}

/// What changed, for followers, in log order.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum DirectoryChange {
    /// Blocks of a holder.
    Blocks(Report),
    /// A holder number was granted.
    HolderGranted(HolderGrant),
    /// A holder was retired: mask its entries now.
    HolderRetired(HolderId),
    /// The node, as it is now; `None`: gone.
    Node(NodeId, Option<NodeSpec>),
    /// The endpoint, as it is now; `None`: gone.
    Endpoint(EndpointId, Option<EndpointSpec>),
}

/// Result of one command.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// For the caller.
    pub outcome: Outcome,
    /// For followers.
    pub changes: Vec<DirectoryChange>,
}

/// The replicated state.
#[derive(Debug, Default)]
pub struct Directory {}

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
    /// Applies one command.
    pub fn apply(&mut self, _command: &Command) -> Applied {
        unimplemented!()
    }
    /// Latest stamp applied.
    pub fn log_time(&self) -> LogTime {
        unimplemented!()
    }
    /// Nodes, endpoints, holders, contracts.
    pub fn roster(&self) -> &Roster {
        unimplemented!()
    }
    /// Blocks.
    pub fn index(&self) -> &PrefixIndex {
        unimplemented!()
    }
    /// Leading blocks by holder; retired holders never appear.
    pub fn leading(&self, _prefix: &[IndexKey]) -> Vec<Match> {
        unimplemented!()
    }
    /// Writes the snapshot (versioned, checksummed, the same bytes on every replica with the same state).
    pub fn snapshot(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads a snapshot.
    pub fn restore(_bytes: &[u8]) -> Result<Self, SnapshotError> {
        unimplemented!()
    }
    /// A holder's keys, for the snapshot part of a watch, in pieces: the first piece from `None`, the next from the last key given.
    pub fn blocks(&self) -> Box<dyn Iterator<Item = (IndexKey, Vec<HolderId>)> + '_> {
        unimplemented!()
    }
}

impl Command {
    /// Log bytes: version tag first.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// From log bytes.
    pub fn decode(_bytes: &[u8]) -> Result<Self, CommandError> {
        unimplemented!()
    }
}

/// Bytes that are not a command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

/// Bytes that are not a snapshot.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SnapshotError(pub String);
