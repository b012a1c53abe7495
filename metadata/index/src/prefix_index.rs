//! [`PrefixIndex`] itself: 4,096 partitions by the first 12 bits of a key, and one state a holder.
//!
//! A partition is shared until it is written, so a clone costs 4,096 pointers whatever the index holds: a snapshot is a
//! clone, written out at leisure while the original goes on. The sweep goes partition by partition, which makes its steps
//! the same on a replica that lived through everything and on one restored from a snapshot.

use std::sync::Arc;

use weft_types::{HolderId, IndexKey};

use crate::holders::{Bits, HolderSet, Holders};
use crate::partition::{Effect, Partition};
use crate::{Change, PartitionId};

/// How many leading blocks of a prefix one holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Who.
    pub holder: HolderId,
    /// Leading blocks, at least 1.
    pub blocks: u32,
}

/// Block key → holders.
///
/// Clone is cheap; the clones share what neither has written since.
#[derive(Clone, Debug)]
pub struct PrefixIndex {
    partitions: Vec<Arc<Partition>>,
    /// By number; blocks of a retired holder are those not swept yet.
    blocks: Vec<u64>,
    retired: Bits,
    /// Distinct blocks in all partitions.
    len: usize,
    /// Partition that the next sweep begins with.
    sweep_at: usize,
}

impl Default for PrefixIndex {
    fn default() -> Self {
        let partitions = (0..Self::PARTITIONS).map(|_| Arc::default()).collect();
        Self { partitions, blocks: Vec::new(), retired: Bits::default(), len: 0, sweep_at: 0 }
    }
}

impl PrefixIndex {
    /// Holder numbers are below this: an entry keeps 16 bits of them.
    pub const HOLDERS_MAX: u32 = 1 << 16;

    /// 12 bits of the key: at 100 million blocks a partition has 24,000, which sort and copy in about a millisecond.
    const PARTITIONS: usize = 1 << 12;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one change; `false` if it was already so, or if the holder is retired and not swept yet.
    ///
    /// # Panics
    /// If the holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn apply(&mut self, holder: HolderId, change: Change) -> bool {
        let number = number(holder);
        if self.retired.contains(number) {
            return false;
        }
        let key = change.key();
        let partition = Arc::make_mut(&mut self.partitions[partition_of(&key)]);
        let stored = matches!(change, Change::Stored(_));
        let effect = if stored { partition.insert(key, number) } else { partition.remove(key, number) };
        if effect == Effect::None {
            return false;
        }
        if self.blocks.len() <= usize::from(number) {
            self.blocks.resize(usize::from(number) + 1, 0);
        }
        let blocks = &mut self.blocks[usize::from(number)];
        *blocks = if stored { *blocks + 1 } else { *blocks - 1 };
        if effect == Effect::Block {
            self.len = if stored { self.len + 1 } else { self.len - 1 };
        }
        true
    }

    /// Forgets (masks) everything a holder has, at once; entries go by [`PrefixIndex::sweep`], and until the last of them
    /// went the number takes no new ones.
    ///
    /// # Panics
    /// If the holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn retire(&mut self, holder: HolderId) {
        self.retired.insert(number(holder));
    }

    /// Removes entries of retired holders, partition by partition, until `budget` keys were looked at (and the partition
    /// at hand is done). Returns the holders whose last entry went, ascending: their numbers are free.
    pub fn sweep(&mut self, budget: usize) -> Vec<HolderId> {
        let mut left = budget;
        while left > 0 && self.retired.iter().any(|number| self.held_by(number) > 0) {
            let partition = &mut self.partitions[self.sweep_at];
            // An empty partition costs one, so that every step ends.
            left = left.saturating_sub(1 + partition.len());
            if partition.len() > 0 {
                let partition = Arc::make_mut(partition);
                self.len -= partition.len();
                partition.sweep(&self.retired, |number| self.blocks[usize::from(number)] -= 1);
                self.len += partition.len();
            }
            self.sweep_at = (self.sweep_at + 1) % Self::PARTITIONS;
        }
        let swept: Vec<u16> = self.retired.iter().filter(|number| self.held_by(*number) == 0).collect();
        for number in &swept {
            self.retired.remove(*number);
        }
        swept.into_iter().map(|number| HolderId::new(u32::from(number))).collect()
    }

    /// Holders retired and not swept yet, ascending; a sweep is due while there are any.
    pub fn retired(&self) -> impl Iterator<Item = HolderId> + '_ {
        self.retired.iter().map(|number| HolderId::new(u32::from(number)))
    }

    /// Per holder, how many leading blocks of `prefix` it holds: exact, holes and all. Longest first, then by number.
    ///
    /// One probe a block, until nobody is left who holds all so far.
    #[must_use]
    pub fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        let mut matches = Vec::new();
        let Some(first) = prefix.first().and_then(|key| self.partition(key).get(key)) else {
            return matches;
        };
        let mut alive = Bits::default();
        for number in first.without(&self.retired).numbers() {
            alive.insert(number);
        }
        let mut end = |number, depth: usize| {
            let blocks = u32::try_from(depth).unwrap_or(u32::MAX);
            matches.push(Match { holder: HolderId::new(u32::from(number)), blocks });
        };
        let mut last = None;
        let mut depth = 1;
        for key in &prefix[1..] {
            let partition = self.partition(key);
            let Some(entry) = partition.find(key) else {
                break;
            };
            // Neighbours mostly lie in the same places. Two bit sets are never taken for equal: the name of one is only its place.
            if last != Some(entry.holders) || matches!(entry.holders, HolderSet::Many(_)) {
                if !alive.keep(partition.holders(entry), |number| end(number, depth)) {
                    break;
                }
                last = Some(entry.holders);
            }
            depth += 1;
        }
        alive.iter().for_each(|number| end(number, depth));
        matches.sort_unstable_by_key(|found| (std::cmp::Reverse(found.blocks), found.holder));
        matches
    }

    /// Whether anybody holds the block, or held it and is not swept yet.
    #[must_use]
    pub fn contains(&self, key: &IndexKey) -> bool {
        self.partition(key).find(key).is_some()
    }

    /// Blocks that a holder has in one partition, ascending; none once retired.
    #[must_use]
    pub fn held_in(&self, partition: PartitionId, holder: HolderId) -> Vec<IndexKey> {
        let Some(number) = u16::try_from(holder.get()).ok().filter(|number| !self.retired.contains(*number)) else {
            return Vec::new();
        };
        let mut held: Vec<_> = self.partitions[usize::from(partition.get())].held_by(number).collect();
        held.sort_unstable();
        held
    }

    /// Blocks of one holder; 0 once retired.
    #[must_use]
    pub fn blocks_of(&self, holder: HolderId) -> u64 {
        match u16::try_from(holder.get()) {
            Ok(number) if !self.retired.contains(number) => self.held_by(number),
            _ => 0,
        }
    }

    /// Distinct blocks, those included that only retired holders had and that are not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every block and its holders, ascending by key, as they are answered: what only retired holders had is left out.
    pub fn blocks(&self) -> impl Iterator<Item = (IndexKey, Holders<'_>)> {
        let live = self.entries().map(|(key, holders)| (key, holders.without(&self.retired)));
        live.filter(|(_, holders)| holders.numbers().next().is_some())
    }

    /// Every entry, ascending by key, as it is kept: those of retired holders are among them until swept.
    pub fn entries(&self) -> impl Iterator<Item = (IndexKey, Holders<'_>)> {
        self.partitions.iter().flat_map(|partition| partition.sorted())
    }

    /// Number of the partition that the next sweep begins with; part of a snapshot.
    #[must_use]
    pub fn sweep_position(&self) -> u16 {
        u16::try_from(self.sweep_at).expect("4,096 partitions")
    }

    /// Sets where the next sweep begins, after a restore; `false` if there is no such partition.
    #[must_use]
    pub fn resume_sweep(&mut self, position: u16) -> bool {
        let known = usize::from(position) < Self::PARTITIONS;
        if known {
            self.sweep_at = usize::from(position);
        }
        known
    }

    fn partition(&self, key: &IndexKey) -> &Partition {
        &self.partitions[partition_of(key)]
    }

    fn held_by(&self, number: u16) -> u64 {
        self.blocks.get(usize::from(number)).copied().unwrap_or(0)
    }
}

/// The first 12 bits of a key.
fn partition_of(key: &IndexKey) -> usize {
    let bytes = key.as_bytes();
    usize::from(bytes[0]) << 4 | usize::from(bytes[1] >> 4)
}

fn number(holder: HolderId) -> u16 {
    u16::try_from(holder.get()).expect("the directory hands out numbers below HOLDERS_MAX, and followers check")
}
