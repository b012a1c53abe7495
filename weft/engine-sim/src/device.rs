//! The device tier: which blocks lie in the simulated accelerator memory, and who uses them.
//!
//! Pure and virtual: a block's bytes are a function of its hash (see [`crate::kv`]), so only the names are kept.
//!
//! ```text
//!   admit ──► pinned (leading hits) + reserved (nameless slots) ──► commit: reserved slots get names, stay pinned
//!                                                               └─► release: pinned become idle, reserved are free
//! ```
//!
//! # Invariants
//! - `held + reserved <= capacity`.
//! - A block that is held has its parent held: whoever pins a block pins its whole prefix, and a release makes the last
//!   block idle first, so that least-recently-used order is also leaf-first order.
//! - Only idle blocks are evicted.

use std::collections::{BTreeMap, HashMap};

use weft_types::BlockHash;

/// Names of blocks in a bounded device memory.
#[derive(Debug)]
pub(crate) struct DeviceTier {
    capacity: usize,
    held: HashMap<BlockHash, Slot>,
    /// Blocks that nobody uses, least recently used first.
    idle: BTreeMap<u64, BlockHash>,
    reserved: usize,
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    users: u32,
    /// Key in `idle` while `users` is 0.
    since: u64,
}

impl DeviceTier {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, held: HashMap::new(), idle: BTreeMap::new(), reserved: 0, clock: 0 }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Blocks that are pinned or reserved.
    pub(crate) fn in_use(&self) -> usize {
        self.held.len() - self.idle.len() + self.reserved
    }

    pub(crate) fn contains(&self, block: &BlockHash) -> bool {
        self.held.contains_key(block)
    }

    /// How many leading blocks of a prefix are held.
    pub(crate) fn leading(&self, blocks: &[BlockHash]) -> usize {
        blocks.iter().take_while(|block| self.contains(block)).count()
    }

    /// Makes blocks that are about to be wanted the last to be evicted. Does not pin: a waiting request that pinned what
    /// it found could keep the request before it from ever fitting.
    pub(crate) fn touch(&mut self, blocks: &[BlockHash]) {
        for block in blocks.iter().rev() {
            if let Some(slot) = self.held.get_mut(block).filter(|slot| slot.users == 0) {
                self.idle.remove(&slot.since);
                self.clock += 1;
                slot.since = self.clock;
                self.idle.insert(self.clock, *block);
            }
        }
    }

    /// Pins `hits`, all held, and reserves `fresh` nameless slots, evicting idle blocks for them. Returns what was
    /// evicted, or `None`, and changes nothing, if the slots are not to be had while others use theirs.
    pub(crate) fn admit(&mut self, hits: &[BlockHash], fresh: usize) -> Option<Vec<BlockHash>> {
        let idle_hits = hits.iter().filter(|hit| self.held[*hit].users == 0).count();
        if self.in_use() + idle_hits + fresh > self.capacity {
            return None;
        }
        hits.iter().for_each(|hit| self.pin(hit));
        self.reserved += fresh;
        let surplus = (self.held.len() + self.reserved).saturating_sub(self.capacity);
        let evicted: Vec<_> = (0..surplus).map_while(|_| self.idle.pop_first().map(|(_, block)| block)).collect();
        debug_assert_eq!(evicted.len(), surplus, "what is neither pinned nor reserved is idle");
        for block in &evicted {
            self.held.remove(block);
        }
        Some(evicted)
    }

    /// Gives reserved slots the names of `blocks`, pinned, and returns those that were not held before. A block that
    /// somebody else brought meanwhile is pinned instead, and its slot is free again.
    pub(crate) fn commit(&mut self, blocks: &[BlockHash]) -> Vec<BlockHash> {
        assert!(blocks.len() <= self.reserved, "a block is committed to a slot reserved for it");
        self.reserved -= blocks.len();
        let mut stored = Vec::with_capacity(blocks.len());
        for block in blocks {
            if self.contains(block) {
                self.pin(block);
            } else {
                self.held.insert(*block, Slot { users: 1, since: 0 });
                stored.push(*block);
            }
        }
        stored
    }

    /// Ends the use of `pinned`, in order of the prefix, and of `reserved` nameless slots.
    pub(crate) fn release(&mut self, pinned: &[BlockHash], reserved: usize) {
        self.reserved -= reserved;
        for block in pinned.iter().rev() {
            let slot = self.held.get_mut(block).expect("a pinned block is never evicted");
            slot.users -= 1;
            if slot.users == 0 {
                self.clock += 1;
                slot.since = self.clock;
                self.idle.insert(self.clock, *block);
            }
        }
    }

    fn pin(&mut self, block: &BlockHash) {
        let slot = self.held.get_mut(block).expect("only held blocks are pinned");
        if slot.users == 0 {
            self.idle.remove(&slot.since);
        }
        slot.users += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Block `depth` of the prefix number `chain`.
    fn block(chain: u8, depth: u8) -> BlockHash {
        let mut bytes = [0; BlockHash::LEN];
        bytes[0] = chain;
        bytes[1] = depth + 1;
        BlockHash::from_bytes(bytes)
    }

    fn prefix(chain: u8, len: u8) -> Vec<BlockHash> {
        (0..len).map(|depth| block(chain, depth)).collect()
    }

    /// Admits, commits all and returns the blocks pinned and what was evicted.
    fn run(tier: &mut DeviceTier, blocks: &[BlockHash]) -> Option<Vec<BlockHash>> {
        let hits = tier.leading(blocks);
        let evicted = tier.admit(&blocks[..hits], blocks.len() - hits)?;
        tier.commit(&blocks[hits..]);
        Some(evicted)
    }

    #[test]
    fn eviction_takes_the_oldest_prefix_from_its_end() {
        let mut tier = DeviceTier::new(5);
        for chain in [1, 2] {
            run(&mut tier, &prefix(chain, 2)).unwrap();
            tier.release(&prefix(chain, 2), 0);
        }
        assert_eq!(run(&mut tier, &prefix(3, 2)).unwrap(), [block(1, 1)]);
        assert_eq!(run(&mut tier, &prefix(4, 1)).unwrap(), [block(1, 0)]);
        assert_eq!(tier.leading(&prefix(2, 2)), 2, "the younger prefix is whole");
    }

    #[test]
    fn touched_blocks_outlive_older_and_younger_ones() {
        let mut tier = DeviceTier::new(4);
        for chain in [1, 2] {
            run(&mut tier, &prefix(chain, 2)).unwrap();
            tier.release(&prefix(chain, 2), 0);
        }
        tier.touch(&prefix(1, 2));
        assert_eq!(run(&mut tier, &prefix(3, 2)).unwrap(), [block(2, 1), block(2, 0)]);
    }

    #[test]
    fn what_is_in_use_is_never_evicted_and_a_request_that_does_not_fit_changes_nothing() {
        let mut tier = DeviceTier::new(4);
        run(&mut tier, &prefix(1, 3)).unwrap();
        assert_eq!(run(&mut tier, &prefix(2, 2)), None);
        assert_eq!((tier.in_use(), tier.leading(&prefix(1, 3))), (3, 3));
        tier.release(&prefix(1, 3), 0);
        assert_eq!(run(&mut tier, &prefix(2, 2)).unwrap(), [block(1, 2)]);
    }

    proptest! {
        #[test]
        fn any_history_keeps_the_invariants(
            steps in prop::collection::vec((0u8..4, 1u8..6, 0usize..3, any::<bool>()), 1..200)
        ) {
            let mut tier = DeviceTier::new(12);
            let mut running: Vec<(Vec<BlockHash>, usize)> = Vec::new();
            for (chain, len, output, finish) in steps {
                if finish && !running.is_empty() {
                    let (pinned, reserved) = running.remove(usize::from(chain) % running.len());
                    tier.release(&pinned, reserved);
                } else {
                    let blocks = prefix(chain, len);
                    let hits = tier.leading(&blocks);
                    if tier.admit(&blocks[..hits], blocks.len() - hits + output).is_some() {
                        tier.commit(&blocks[hits..]);
                        running.push((blocks, output));
                    }
                }
                prop_assert!(tier.held.len() + tier.reserved <= tier.capacity);
                for chain in 0..4 {
                    let held = (0..6).filter(|depth| tier.contains(&block(chain, *depth))).count();
                    prop_assert_eq!(tier.leading(&prefix(chain, 6)), held, "no hole in a prefix");
                }
                for (pinned, _) in &running {
                    prop_assert_eq!(tier.leading(pinned), pinned.len());
                }
            }
            running.iter().for_each(|(pinned, reserved)| tier.release(pinned, *reserved));
            prop_assert_eq!(tier.in_use(), 0);
        }
    }
}
