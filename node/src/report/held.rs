//! What a holder really holds, whatever was reported of it: the arenas, the disk tier, or what an engine says of its device.

use parking_lot::Mutex;
use weft_index::Change;
use weft_store::TierChange;
use weft_types::IndexKey;

use super::DeviceHeld;
use crate::arenas::Arenas;
use crate::disk::Disk;

/// A holder's truth, and its changes.
pub(crate) trait Held: Send + Sync {
    /// What changed since this was last called; `None` when that was too much to keep: then only a cut tells.
    fn take_changes(&self) -> Option<Vec<Change>>;

    /// Gives everything that is held to `each`, and takes the changes that led there: both as of one moment, for each block.
    /// `None` when the changes were too many to keep.
    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>>;
}

impl Held for Arenas {
    fn take_changes(&self) -> Option<Vec<Change>> {
        Self::take_changes(self).map(index_changes)
    }

    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>> {
        Self::cut(self, |block| each(block.index_key())).map(index_changes)
    }
}

impl Held for Disk {
    fn take_changes(&self) -> Option<Vec<Change>> {
        Self::take_changes(self).map(index_changes)
    }

    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>> {
        Self::cut(self, |block| each(block.index_key())).map(index_changes)
    }
}

impl Held for Mutex<DeviceHeld> {
    fn take_changes(&self) -> Option<Vec<Change>> {
        self.lock().take_changes()
    }

    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>> {
        let mut device = self.lock();
        device.blocks().for_each(each);
        device.take_changes()
    }
}

fn index_changes(changes: Vec<TierChange>) -> Vec<Change> {
    let change = |change| match change {
        TierChange::Stored(block) => Change::Stored(block.index_key()),
        TierChange::Removed(block) => Change::Removed(block.index_key()),
    };
    changes.into_iter().map(change).collect()
}
