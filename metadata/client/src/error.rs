//! Why a call to metadata failed.

use std::net::SocketAddr;
use std::time::Duration;

use weft_types::ContractConflict;

/// Why a call to metadata failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No member answered in time. What was asked may still have been done.
    #[error("no metadata member of {members:?} answered within {after:?}: {last}")]
    Unavailable {
        /// All that were known.
        members: Vec<SocketAddr>,
        /// The deadline.
        after: Duration,
        /// What the last attempt brought.
        last: String,
    },
    /// The directory or a member refused; the same again would be refused again.
    #[error("metadata refused: {0}")]
    Refused(String),
    /// The endpoint's contract disagrees with the agreed one.
    #[error(transparent)]
    Conflict(#[from] ContractConflict),
}
