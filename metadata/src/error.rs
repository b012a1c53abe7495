//! Why a member's files cannot be used.

use std::io;

/// What to do about a log or a snapshot that was acknowledged and is not whole.
const REMEDY: &str = "do not delete it: restore the data directory from a copy, or replace the member as \
                      docs/log-format.md says under 'When a member refuses to start'";

/// Why a member's files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system said no.
    #[error("cannot {operation} {file}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// What was acknowledged as written is not there any more.
    #[error("{file} is damaged at byte {offset}: {reason}; {REMEDY}")]
    Damaged {
        /// Which file.
        file: String,
        /// Where the first wrong byte may lie.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The device does not give back what was written.
    #[error("{file} cannot be read at byte {offset}: {source}; {REMEDY}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Where the first byte lies that cannot be read.
        offset: u64,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{file} is missing, and what is there cannot be used without it; {REMEDY}")]
    Missing {
        /// Which file.
        file: String,
    },
    /// The directory belongs to somebody else.
    #[error("{file} says '{found}', expected '{expected}': this data directory belongs to another member or cluster")]
    Foreign {
        /// Which file.
        file: String,
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, file: String, source: io::Error) -> Self {
        Self::Io { operation, file, source }
    }
}
