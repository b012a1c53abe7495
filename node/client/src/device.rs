//! What the engine holds in device memory, as it told us: enough to tell it again to a daemon that has forgotten.
//!
//! Changes are folded until the writer takes them: of a block that came and went in between, only the outcome is sent.
//! When too much has gathered, or a new daemon is there, everything held is sent instead.

use std::collections::{HashMap, HashSet};

use weft_attach::{BLOCKS_PER_MESSAGE_MAX, DeviceChanged};
use weft_types::BlockHash;

/// Device blocks we remember: 1 Mi, 32 MiB of hashes. Eight accelerators of 192 GB hold a tenth of that in blocks of 64
/// tokens. Blocks beyond are not reported: the router then knows less, and nothing is wrong.
const DEVICE_BLOCKS_MAX: usize = 1 << 20;

/// Folded changes that may wait: beyond a quarter of what is remembered, sending everything is as cheap.
const PENDING_MAX: usize = DEVICE_BLOCKS_MAX / 4;

/// The device tier, and what of it is still to be told.
#[derive(Debug, Default)]
pub(crate) struct DeviceTier {
    held: HashSet<BlockHash>,
    /// Block → whether it is held now.
    pending: HashMap<BlockHash, bool>,
    /// Everything is to be told.
    reset: bool,
}

impl DeviceTier {
    /// Takes note of a change.
    pub(crate) fn change(&mut self, stored: &[BlockHash], removed: &[BlockHash]) {
        for block in removed {
            if self.held.remove(block) {
                self.note(*block, false);
            }
        }
        for block in stored {
            if self.held.len() < DEVICE_BLOCKS_MAX && self.held.insert(*block) {
                self.note(*block, true);
            }
        }
    }

    /// The daemon knows nothing: tell everything.
    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.pending = HashMap::new();
    }

    /// The messages that tell what is still to be told.
    pub(crate) fn take(&mut self) -> Vec<DeviceChanged> {
        let whole = std::mem::take(&mut self.reset);
        let (removed, stored): (Vec<_>, Vec<_>) = if whole {
            (Vec::new(), self.held.iter().copied().collect())
        } else {
            let (stored, removed): (Vec<_>, Vec<_>) = self.pending.drain().partition(|(_, held)| *held);
            (
                removed.into_iter().map(|(block, _)| block).collect(),
                stored.into_iter().map(|(block, _)| block).collect(),
            )
        };
        let message = |reset, removed: &[BlockHash], stored: &[BlockHash]| DeviceChanged {
            reset,
            removed: removed.to_vec(),
            stored: stored.to_vec(),
        };
        let mut messages = Vec::new();
        if whole && stored.is_empty() {
            messages.push(message(true, &[], &[]));
        }
        messages.extend(removed.chunks(BLOCKS_PER_MESSAGE_MAX).map(|removed| message(false, removed, &[])));
        for (number, stored) in stored.chunks(BLOCKS_PER_MESSAGE_MAX).enumerate() {
            messages.push(message(whole && number == 0, &[], stored));
        }
        messages
    }

    fn note(&mut self, block: BlockHash, held: bool) {
        if self.reset {
            return;
        }
        self.pending.insert(block, held);
        if self.pending.len() > PENDING_MAX {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> BlockHash {
        BlockHash::from_bytes([byte; 32])
    }

    #[test]
    fn changes_are_told_once_and_everything_after_a_reset() {
        let mut device = DeviceTier::default();
        device.change(&[hash(1), hash(2)], &[]);
        device.change(&[], &[hash(2), hash(9)]);
        let told = device.take();
        assert_eq!(
            told,
            [
                DeviceChanged { reset: false, removed: vec![hash(2)], stored: vec![] },
                DeviceChanged { reset: false, removed: vec![], stored: vec![hash(1)] },
            ]
        );
        assert!(device.take().is_empty());

        device.change(&[hash(3)], &[hash(1)]);
        device.reset();
        assert_eq!(device.take(), [DeviceChanged { reset: true, removed: vec![], stored: vec![hash(3)] }]);
        device.change(&[], &[hash(3)]);
        device.reset();
        assert_eq!(device.take(), [DeviceChanged { reset: true, removed: vec![], stored: vec![] }]);
    }

    #[test]
    fn too_many_changes_become_a_reset() {
        let mut device = DeviceTier::default();
        let numbered = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            BlockHash::from_bytes(bytes)
        };
        let blocks: Vec<_> = (0..=PENDING_MAX).map(numbered).collect();
        device.change(&blocks, &[]);
        let told = device.take();
        assert!(told[0].reset && told[1..].iter().all(|message| !message.reset));
        assert_eq!(told.iter().map(|message| message.stored.len()).sum::<usize>(), blocks.len());
    }
}
