//! Retired holders, and what is done partition by partition: the sweep, and walks in the order of the keys.
//!
//! Which blocks a partition has depends on their keys only. So the steps of a sweep are the same on a replica that lived
//! through everything and on one restored from a snapshot, though their slots and tables differ.

use crate::atomic::Ordering;

use hashbrown::HashMap;
use weft_types::{HolderId, IndexKey};

use super::{PrefixIndex, number};
use crate::PartitionId;
use crate::key::Key;
use crate::sets::SetId;
use crate::slab::Slot;

/// A block of a partition.
#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    slot: Slot,
    set: SetId,
}

impl PrefixIndex {
    /// Forgets (masks) everything a holder has, at once; entries go by [`PrefixIndex::sweep`], and until the last of them
    /// went the number takes no new ones.
    ///
    /// # Panics
    /// If the holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn retire(&mut self, holder: HolderId) {
        self.shared.retired.insert(number(holder));
    }

    /// Removes entries of retired holders, partition by partition, until `budget` keys were looked at (and the partition
    /// at hand is done). Returns the holders whose last entry went, ascending: their numbers are free.
    pub fn sweep(&mut self, budget: usize) -> Vec<HolderId> {
        let mut left = budget;
        while left > 0 && self.shared.retired.iter().any(|number| self.held_by(number) > 0) {
            // An empty partition costs one, so that every step ends.
            left = left.saturating_sub(1 + self.sweep_partition(self.sweep_at));
            self.sweep_at = (self.sweep_at + 1) % PartitionId::COUNT;
        }
        let swept: Vec<u16> = self.shared.retired.iter().filter(|number| self.held_by(*number) == 0).collect();
        if !swept.is_empty() {
            self.shared.lives.fetch_add(1, Ordering::AcqRel);
        }
        for number in &swept {
            self.shared.retired.remove(*number);
        }
        swept.into_iter().map(|number| HolderId::new(u32::from(number))).collect()
    }

    /// Holders retired and not swept yet, ascending; a sweep is due while there are any.
    pub fn retired(&self) -> impl Iterator<Item = HolderId> + '_ {
        self.shared.retired.iter().map(|number| HolderId::new(u32::from(number)))
    }

    /// Number of the partition that the next sweep begins with; part of a snapshot.
    #[must_use]
    pub fn sweep_position(&self) -> u16 {
        u16::try_from(self.sweep_at).expect("4,096 partitions")
    }

    /// Sets where the next sweep begins, after a restore; `false` if there is no such partition.
    #[must_use]
    pub fn resume_sweep(&mut self, position: u16) -> bool {
        let known = usize::from(position) < PartitionId::COUNT;
        if known {
            self.sweep_at = usize::from(position);
        }
        known
    }

    /// Blocks that a holder has in one partition, ascending; none once retired.
    #[must_use]
    pub fn held_in(&self, partition: PartitionId, holder: HolderId) -> Vec<IndexKey> {
        let Some(number) = u16::try_from(holder.get()).ok().filter(|number| !self.shared.retired.contains(*number))
        else {
            return Vec::new();
        };
        let entries = self.entries_of(partition.get().into()).into_iter();
        let held = entries.filter(|entry| self.shared.sets.content(entry.set).contains(number));
        held.map(|entry| IndexKey::from(entry.key)).collect()
    }

    /// Every block, ascending by key, with its holders ascending; those that are retired are among them until swept.
    pub fn entries(&self) -> impl Iterator<Item = (IndexKey, Vec<HolderId>)> + '_ {
        (0..PartitionId::COUNT).flat_map(|partition| self.entries_of(partition)).map(|entry| {
            let mut holders = Vec::new();
            self.shared.sets.content(entry.set).for_each(|number| holders.push(HolderId::new(u32::from(number))));
            (IndexKey::from(entry.key), holders)
        })
    }

    /// Ascending by key.
    fn entries_of(&self, partition: usize) -> Vec<Entry> {
        let slots = self.table.partition(partition).map(|slot| {
            let (segment, at) = self.shared.slab.locate(slot);
            Entry { key: self.shared.slab.key(segment, at), slot, set: segment.set(at) }
        });
        let mut entries: Vec<Entry> = slots.collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        entries
    }

    /// Returns how many blocks it had.
    fn sweep_partition(&mut self, partition: usize) -> usize {
        let entries = self.entries_of(partition);
        // Sets repeat; each is worked out once. A name means the same as long as a block that is still to come has it, and
        // so does that which it becomes, since a block that went before has it.
        let mut becomes: HashMap<SetId, SetId> = HashMap::new();
        for Entry { key, slot, set } in entries.iter().copied() {
            let shared = &self.shared;
            let gone = |number| shared.retired.contains(number);
            let to = match becomes.get(&set) {
                Some(to) => *to,
                None => self.sets.without(&shared.sets, set, gone),
            };
            if to == set {
                continue;
            }
            shared.sets.content(set).for_each(|number| {
                if shared.retired.contains(number) {
                    self.blocks[usize::from(number)] -= 1;
                }
            });
            becomes.insert(set, to);
            if to == SetId::FREE {
                self.free(slot, set, key);
            } else {
                self.rename(slot, set, to);
            }
        }
        entries.len()
    }
}
