//! What changed in a tier, for those who tell the directory.

use weft_types::BlockHash;

/// One change of what a tier holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TierChange {
    /// The block can be found now.
    Stored(BlockHash),
    /// It no longer can.
    Removed(BlockHash),
}

/// Changes since they were last taken, in order, up to a bound. Past the bound the log forgets them and says so: whoever
/// reads it then has to look at everything that is held.
#[derive(Debug)]
pub struct ChangeLog {
    changes: Vec<TierChange>,
    max: usize,
    overflowed: bool,
}

impl ChangeLog {
    /// A log that keeps at most `max` changes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { changes: Vec::new(), max, overflowed: false }
    }

    /// Adds a change.
    pub fn push(&mut self, change: TierChange) {
        if self.overflowed {
            return;
        }
        if self.changes.len() == self.max {
            self.overflow();
            return;
        }
        self.changes.push(change);
    }

    /// Nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.overflowed
    }

    /// Takes what is there; `None` when the log had overflowed, and begins anew.
    pub fn take(&mut self) -> Option<Vec<TierChange>> {
        let changes = std::mem::take(&mut self.changes);
        (!std::mem::take(&mut self.overflowed)).then_some(changes)
    }

    /// Forgets what is there, and says so to the next reader.
    pub fn overflow(&mut self) {
        self.changes = Vec::new();
        self.overflowed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_full_says_so_once_and_begins_anew() {
        let change = |byte| TierChange::Stored(BlockHash::from_bytes([byte; 32]));
        let mut log = ChangeLog::new(2);
        assert!(log.is_empty());
        log.push(change(1));
        log.push(change(2));
        assert_eq!(log.take(), Some(vec![change(1), change(2)]));
        (0..3).for_each(|byte| log.push(change(byte)));
        log.push(change(4));
        assert!(!log.is_empty());
        assert_eq!(log.take(), None);
        log.push(change(5));
        assert_eq!(log.take(), Some(vec![change(5)]));
    }
}
