//! What comes out of a command.

use weft_index::{DirectoryChange, ReportAck};
use weft_types::{ContractConflict, HolderGrant, Operated};

/// What the caller is told.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// Holder numbers for every tier or rank, in order of tier or rank.
    Granted(Vec<HolderGrant>),
    /// A contract disagrees; nothing was changed.
    Conflict(ContractConflict),
    /// Refused, with fault and remedy (a stale incarnation, a bound reached); nothing was changed.
    Refused(String),
    /// An operator's request was done.
    Operated(Operated),
    /// One for each report, in order.
    Reports(Vec<ReportAck>),
}

/// Result of one command.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// For the caller.
    pub outcome: Outcome,
    /// For followers.
    pub changes: Vec<DirectoryChange>,
}

/// Why a command changes nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    Conflict(ContractConflict),
    Refused(String),
}

impl From<ContractConflict> for Refusal {
    fn from(conflict: ContractConflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict(conflict) => Self::Conflict(conflict),
            Refusal::Refused(reason) => Self::Refused(reason),
        }
    }
}
