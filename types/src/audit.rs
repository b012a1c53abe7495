//! Who changed what in the cluster by hand.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LeaseId, LogTime, Name, RequestId, Role};

/// Who asked, as the certificate says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asker {
    /// Role in the certificate.
    pub role: Role,
    /// Name in the certificate.
    pub name: Name,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

/// One request of an operator, as the directory remembers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in the log.
    pub index: u64,
    /// When it was applied.
    pub at: LogTime,
    /// Who asked.
    pub by: Asker,
    /// By which it is known again when it is sent twice.
    pub request: RequestId,
    /// What was asked, in words, without secrets; at most [`AuditEntry::TEXT_BYTES_MAX`].
    pub what: String,
    /// What came of it.
    pub outcome: AuditOutcome,
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AuditOutcome {
    /// Done.
    Done,
    /// A lease was granted or renewed.
    Leased {
        /// Which.
        lease: LeaseId,
        /// When it ends.
        until: LogTime,
    },
    /// Refused, for this reason; nothing was changed.
    Refused(String),
}

impl AuditEntry {
    /// Entries that are remembered; the oldest goes first.
    pub const KEPT_MAX: usize = 1_024;

    /// Longest text of an entry: all of them together stay under a megabyte.
    pub const TEXT_BYTES_MAX: usize = 384;

    /// A text as an entry may hold it: cut at a character, and marked where it was.
    #[must_use]
    pub fn cut(mut text: String) -> String {
        const MARK: &str = "…";
        if text.len() > Self::TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(Self::TEXT_BYTES_MAX - MARK.len()));
            text.push_str(MARK);
        }
        text
    }
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Leased { lease, until } => write!(f, "lease {lease} until {until}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(AuditEntry::cut("short".to_owned()), "short");
        let cut = AuditEntry::cut("ü".repeat(AuditEntry::TEXT_BYTES_MAX));
        assert!(cut.len() <= AuditEntry::TEXT_BYTES_MAX && cut.ends_with("ü…"), "{cut}");
    }
}
