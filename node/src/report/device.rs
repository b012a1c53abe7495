//! What one engine says it holds in device memory.

use std::collections::HashSet;

use weft_attach::DeviceChanged;
use weft_events::BlockChange;
use weft_index::Change;
use weft_types::{BlockHash, IndexKey};

/// Blocks remembered of one engine: 1 Mi, as many as its client reports. Beyond it, blocks are not reported.
const BLOCKS_MAX: usize = 1 << 20;

/// Changes that may wait for the reporter. It takes them every few milliseconds; during an outage of metadata they pile
/// up, and beyond this what is held is compared with what is listed instead.
const CHANGES_MAX: usize = 1 << 18;

/// A device tier, as reported by its engine.
#[derive(Debug, Default)]
pub(crate) struct DeviceHeld {
    held: HashSet<IndexKey>,
    changes: Vec<Change>,
    overflowed: bool,
}

impl DeviceHeld {
    /// Takes in what the engine says. A reset becomes the changes it amounts to: on a fresh attachment, to which every engine
    /// says one first, there is nothing to take back, and the endpoint's grant stands.
    pub(crate) fn apply(&mut self, message: &DeviceChanged) {
        if message.reset {
            let kept: HashSet<_> = message.stored.iter().map(BlockHash::index_key).collect();
            let dropped: Vec<_> = self.held.extract_if(|key| !kept.contains(key)).collect();
            dropped.into_iter().for_each(|key| self.push(Change::Removed(key)));
        }
        message.removed.iter().for_each(|block| self.remove(block));
        message.stored.iter().for_each(|block| self.store(block));
    }

    /// Takes in what the engine's events say, in their order.
    pub(crate) fn follow(&mut self, changes: &[BlockChange]) {
        for change in changes {
            match change {
                BlockChange::Stored(block) => self.store(block),
                BlockChange::Removed(block) => self.remove(block),
            }
        }
    }

    /// What changed since this was last called; `None` when everything has to be reported.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        let changes = std::mem::take(&mut self.changes);
        (!std::mem::take(&mut self.overflowed)).then_some(changes)
    }

    /// Everything held.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = IndexKey> {
        self.held.iter().copied()
    }

    /// How many blocks.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    fn store(&mut self, block: &BlockHash) {
        let key = block.index_key();
        if self.held.len() < BLOCKS_MAX && self.held.insert(key) {
            self.push(Change::Stored(key));
        }
    }

    fn remove(&mut self, block: &BlockHash) {
        let key = block.index_key();
        if self.held.remove(&key) {
            self.push(Change::Removed(key));
        }
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
    fn a_reset_amounts_to_what_differs() {
        let hash = |byte| BlockHash::from_bytes([byte; 32]);
        let (stored, removed) =
            (|byte| Change::Stored(hash(byte).index_key()), |byte| Change::Removed(hash(byte).index_key()));
        let mut device = DeviceHeld::default();
        device.apply(&DeviceChanged { reset: true, removed: vec![], stored: vec![] });
        assert_eq!(device.take_changes(), Some(vec![]), "nothing was held: nothing to say");
        device.apply(&DeviceChanged { reset: false, removed: vec![hash(9)], stored: vec![hash(1), hash(2)] });
        assert_eq!(device.take_changes(), Some(vec![stored(1), stored(2)]));
        device.apply(&DeviceChanged { reset: true, removed: vec![], stored: vec![hash(2), hash(3)] });
        assert_eq!(device.take_changes(), Some(vec![removed(1), stored(3)]));
        assert_eq!(device.blocks().count(), 2);
        device.apply(&DeviceChanged { reset: false, removed: vec![hash(3)], stored: vec![] });
        assert_eq!(device.take_changes(), Some(vec![removed(3)]));
        assert_eq!(device.len(), 1);
        let (came, went) = (BlockChange::Stored(hash(4)), BlockChange::Removed(hash(4)));
        device.follow(&[came, went, came, BlockChange::Removed(hash(9))]);
        assert_eq!(device.take_changes(), Some(vec![stored(4), removed(4), stored(4)]), "in their order");
    }

    #[test]
    fn more_changes_than_are_kept_have_everything_reported() {
        let numbered = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            BlockHash::from_bytes(bytes)
        };
        let mut device = DeviceHeld::default();
        let stored: Vec<_> = (0..=CHANGES_MAX).map(numbered).collect();
        device.apply(&DeviceChanged { reset: false, removed: vec![], stored });
        assert_eq!(device.take_changes(), None);
        assert_eq!(device.len(), CHANGES_MAX + 1);
        assert_eq!(device.take_changes(), Some(vec![]));
    }
}
