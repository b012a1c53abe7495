//! What one engine says it holds in device memory.

use std::collections::HashSet;

use weft_attach::DeviceChanged;
use weft_index::Change;
use weft_types::{BlockHash, IndexKey};

/// Blocks remembered of one engine: 1 Mi, as many as its client reports. Beyond it, blocks are not reported.
const BLOCKS_MAX: usize = 1 << 20;

/// Changes that may wait for the reporter. It takes them every few milliseconds; during an outage of metadata they pile
/// up, and beyond this everything is reported anew instead.
const CHANGES_MAX: usize = 1 << 18;

/// A device tier, as reported by its engine.
#[derive(Debug, Default)]
pub(crate) struct DeviceHeld {
    held: HashSet<IndexKey>,
    changes: Vec<Change>,
    overflowed: bool,
}

impl DeviceHeld {
    /// Takes in what the engine says.
    pub(crate) fn apply(&mut self, message: &DeviceChanged) {
        if message.reset {
            self.held.clear();
            self.overflow();
        }
        for key in message.removed.iter().map(BlockHash::index_key) {
            if self.held.remove(&key) {
                self.push(Change::Removed(key));
            }
        }
        for key in message.stored.iter().map(BlockHash::index_key) {
            if self.held.len() < BLOCKS_MAX && self.held.insert(key) {
                self.push(Change::Stored(key));
            }
        }
    }

    /// What changed since this was last called; `None` when everything has to be reported.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        let changes = std::mem::take(&mut self.changes);
        (!std::mem::take(&mut self.overflowed)).then_some(changes)
    }

    /// Everything held. Changes up to now are taken by it.
    pub(crate) fn held(&mut self) -> Vec<IndexKey> {
        self.changes.clear();
        self.overflowed = false;
        self.held.iter().copied().collect()
    }

    /// How many blocks.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() == CHANGES_MAX {
            self.overflow();
        }
        if !self.overflowed {
            self.changes.push(change);
        }
    }

    fn overflow(&mut self) {
        self.changes = Vec::new();
        self.overflowed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_replaces_what_was_said_before() {
        let hash = |byte| BlockHash::from_bytes([byte; 32]);
        let mut device = DeviceHeld::default();
        device.apply(&DeviceChanged { reset: false, removed: vec![hash(9)], stored: vec![hash(1), hash(2)] });
        let stored = |byte| Change::Stored(hash(byte).index_key());
        assert_eq!(device.take_changes(), Some(vec![stored(1), stored(2)]));
        device.apply(&DeviceChanged { reset: true, removed: vec![], stored: vec![hash(3)] });
        assert_eq!(device.take_changes(), None, "everything has to be reported");
        assert_eq!(device.held(), [hash(3).index_key()]);
        device.apply(&DeviceChanged { reset: false, removed: vec![hash(3)], stored: vec![] });
        assert_eq!(device.take_changes(), Some(vec![Change::Removed(hash(3).index_key())]));
        assert_eq!(device.len(), 0);
    }
}
