//! What a holder holds, as sums that two sides can compare without telling each other the blocks.
//!
//! The keys fall into 4,096 *partitions* by their first 12 bits. Each partition has one sum, the XOR of a mix of its keys, so
//! that a block that comes and one that goes are the same operation and the order of changes does not matter. 64 neighbouring
//! partitions make a *group*, whose sum is the XOR of theirs: 64 sums tell that two sides agree, and where they do not, which
//! 64 sums to look at next.
//!
//! ```text
//!   key ─ first 12 bits ─► partition 0 … 63 │ 64 … 127 │ …            4,096 sums, 32 KiB
//!                                group 0    │ group 1  │ …            64 sums, 512 bytes
//! ```
//!
//! Two different sets of keys in a partition have equal sums once in 2⁶⁴, for keys that are hashes. Whoever may report for a
//! holder can choose its keys, and so hide a difference in its own blocks: it could as well report blocks that it has not.

use weft_types::IndexKey;

use crate::Change;

/// One of the 4,096 parts that keys fall into, by their first 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(u16);

/// A run of partitions, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partitions {
    first: PartitionId,
    last: PartitionId,
}

/// Sums of what one holder holds. Nothing is allocated before its first block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// Empty, or [`PartitionId::COUNT`] of them.
    sums: Vec<u64>,
    blocks: u64,
}

impl PartitionId {
    /// How many there are.
    pub const COUNT: usize = 1 << 12;

    /// The one of a key.
    #[must_use]
    pub fn of(key: &IndexKey) -> Self {
        let bytes = key.as_bytes();
        Self(u16::from(bytes[0]) << 4 | u16::from(bytes[1] >> 4))
    }

    /// By its number; `None` past the last.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (usize::from(number) < Self::COUNT).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Partitions {
    /// Every one.
    pub const ALL: Self = Self { first: PartitionId(0), last: PartitionId(PartitionId::COUNT as u16 - 1) };

    /// From `first` to `last`; `None` if they are the wrong way round.
    #[must_use]
    pub fn new(first: PartitionId, last: PartitionId) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> PartitionId {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> PartitionId {
        self.last
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(self, partition: PartitionId) -> bool {
        (self.first..=self.last).contains(&partition)
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.last.0 - self.first.0) + 1
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = PartitionId> {
        (self.first.0..=self.last.0).map(PartitionId)
    }
}

impl Digests {
    /// Groups of partitions.
    pub const GROUPS: usize = 64;

    /// Partitions in a group.
    pub const GROUP_PARTITIONS: usize = PartitionId::COUNT / Self::GROUPS;

    /// Of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { sums: Vec::new(), blocks: 0 }
    }

    /// Takes in changes that took effect: each stores a block that was not held, or removes one that was.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Stored(key) => self.insert(key),
                Change::Removed(key) => self.remove(key),
            }
        }
    }

    /// A block that was not held.
    pub fn insert(&mut self, key: &IndexKey) {
        self.toggle(key);
        self.blocks += 1;
    }

    /// A block that was held.
    pub fn remove(&mut self, key: &IndexKey) {
        self.toggle(key);
        self.blocks = self.blocks.saturating_sub(1);
    }

    /// How many blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Sums of all groups.
    #[must_use]
    pub fn groups(&self) -> [u64; Self::GROUPS] {
        std::array::from_fn(|group| self.group(group).iter().fold(0, |sum, partition| sum ^ partition))
    }

    /// Sums of the partitions of one group.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn group(&self, group: usize) -> [u64; Self::GROUP_PARTITIONS] {
        assert!(group < Self::GROUPS, "group {group} of {}", Self::GROUPS);
        match self.sums.is_empty() {
            true => [0; Self::GROUP_PARTITIONS],
            false => std::array::from_fn(|at| self.sums[group * Self::GROUP_PARTITIONS + at]),
        }
    }

    /// Partitions of a group whose sums are not these, ascending. Sums that are missing count as 0.
    pub fn differing<'a>(&self, group: usize, theirs: &'a [u64]) -> impl Iterator<Item = PartitionId> + use<'a> {
        let theirs = theirs.iter().copied().chain(std::iter::repeat(0));
        let numbers = group * Self::GROUP_PARTITIONS..;
        let pairs = self.group(group).into_iter().zip(theirs).zip(numbers);
        pairs
            .filter(|((ours, theirs), _)| ours != theirs)
            .map(|(_, number)| PartitionId(u16::try_from(number).expect("a group's partitions are below 4,096")))
    }

    fn toggle(&mut self, key: &IndexKey) {
        if self.sums.is_empty() {
            self.sums = vec![0; PartitionId::COUNT];
        }
        self.sums[usize::from(PartitionId::of(key).0)] ^= mix(key);
    }
}

/// 64 bits that depend on every bit of the key, by a folded multiplication. Keys are hashes already; this is for those that
/// are not (tests number them), whose halves would cancel out. Both sides must have the same: it is part of the protocol.
fn mix(key: &IndexKey) -> u64 {
    /// Numbers without a pattern: the first digits of π's fraction in binary.
    const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    let number = u128::from_be_bytes(*key.as_bytes());
    let (high, low) = ((number >> 64) as u64 ^ PI[0], number as u64 ^ PI[1]);
    let product = u128::from(high) * u128::from(low);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few keys in few partitions and groups, and alike but for a bit or two.
    fn key(number: u8) -> IndexKey {
        let mut bytes = [0; 16];
        bytes[0] = number % 5;
        bytes[1] = (number % 3) << 4;
        bytes[15] = number;
        IndexKey::from_bytes(bytes)
    }

    fn of(keys: &BTreeSet<u8>) -> Digests {
        let mut digests = Digests::new();
        keys.iter().for_each(|number| digests.insert(&key(*number)));
        digests
    }

    proptest! {
        #[test]
        fn what_differs_is_found_and_nothing_else(
            ours in prop::collection::btree_set(any::<u8>(), 0..60),
            theirs in prop::collection::btree_set(any::<u8>(), 0..60),
        ) {
            let (one, other) = (of(&ours), of(&theirs));
            let expected: BTreeSet<_> =
                ours.symmetric_difference(&theirs).map(|number| PartitionId::of(&key(*number))).collect();
            let (mine, yours) = (one.groups(), other.groups());
            let differing: BTreeSet<_> = (0..Digests::GROUPS)
                .filter(|group| mine[*group] != yours[*group])
                .flat_map(|group| one.differing(group, &other.group(group)).collect::<Vec<_>>())
                .collect();
            prop_assert_eq!(differing, expected);
            prop_assert_eq!(one.blocks(), ours.len() as u64);
        }

        #[test]
        fn only_what_is_held_counts_not_how_it_came(numbers in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut digests, mut held) = (Digests::new(), BTreeSet::new());
            for number in numbers {
                let change = match held.insert(number) {
                    true => Change::Stored(key(number)),
                    false => { held.remove(&number); Change::Removed(key(number)) }
                };
                digests.apply(&[change]);
            }
            prop_assert_eq!(digests.groups(), of(&held).groups());
            prop_assert_eq!(digests.blocks(), held.len() as u64);
        }
    }

    #[test]
    fn sums_are_part_of_the_protocol() {
        let mut digests = Digests::new();
        let bytes = std::array::from_fn(|at| 16 * (at as u8) + 1);
        digests.insert(&IndexKey::from_bytes(bytes));
        assert_eq!(PartitionId::of(&IndexKey::from_bytes(bytes)).get(), 0x011);
        assert_eq!(digests.group(0)[0x11], 0xb115f0d79545b9c1);
        assert_eq!(digests.groups()[0], digests.group(0)[0x11]);
    }

    #[test]
    fn runs_of_partitions() {
        let [a, b] = [7, 9].map(|number| PartitionId::new(number).unwrap());
        let run = Partitions::new(a, b).unwrap();
        assert_eq!((run.count(), run.iter().map(PartitionId::get).collect::<Vec<_>>()), (3, vec![7, 8, 9]));
        assert!(run.contains(a) && run.contains(b) && !run.contains(PartitionId(10)));
        assert_eq!(Partitions::new(b, a), None);
        assert_eq!((Partitions::ALL.count(), PartitionId::new(4096)), (4096, None));
    }
}
