//! The last requests of operators: for people to read, and to know a request again that is sent twice.

use std::collections::VecDeque;

use weft_types::{Asker, AuditEntry, RequestId};

/// A ring of [`AuditEntry::KEPT_MAX`] entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Audit {
    entries: VecDeque<AuditEntry>,
}

impl Audit {
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The entry of this request, if it came before.
    pub(crate) fn find(&self, by: &Asker, request: RequestId) -> Option<&AuditEntry> {
        // A second copy comes soon after the first.
        self.entries.iter().rev().find(|entry| entry.request == request && entry.by == *by)
    }

    /// The newest entry.
    pub(crate) fn push(&mut self, entry: AuditEntry) {
        if self.entries.len() >= AuditEntry::KEPT_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}
