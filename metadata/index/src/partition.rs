//! One of the 4,096 parts of the index: a hash table of 24-byte entries, and the bit sets of blocks with many holders.

use std::mem::size_of;

use hashbrown::HashTable;
use hashbrown::hash_table;
use weft_types::IndexKey;

use crate::holders::{Bits, HolderSet, Holders};

/// A block and who holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    key: IndexKey,
    pub(crate) holders: HolderSet,
}

const _: () = assert!(size_of::<Entry>() == 24, "16 bytes of key and 8 of holders: 100 million blocks depend on it");

/// What became of a number that was to be inserted or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// It was so already.
    None,
    /// The set of a block changed.
    Holder,
    /// The block came, or went with its last holder.
    Block,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    entries: HashTable<Entry>,
    many: Vec<Bits>,
    /// Places of `many` that no entry uses.
    free: Vec<u32>,
}

/// A key's own bytes are its hash, being a hash already. The last eight, because the first name the partition.
fn hash(key: &IndexKey) -> u64 {
    let (_, last) = key.as_bytes().split_last_chunk().expect("16 bytes end in 8");
    u64::from_le_bytes(*last)
}

impl Partition {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, key: &IndexKey) -> Option<&Entry> {
        self.entries.find(hash(key), |entry| entry.key == *key)
    }

    pub(crate) fn get(&self, key: &IndexKey) -> Option<Holders<'_>> {
        self.find(key).map(|entry| self.holders(entry))
    }

    pub(crate) fn holders<'a>(&'a self, entry: &'a Entry) -> Holders<'a> {
        match &entry.holders {
            HolderSet::Few { len, numbers } => Holders::few(&numbers[..usize::from(*len)]),
            HolderSet::Many(at) => Holders::many(&self.many[*at as usize]),
        }
    }

    pub(crate) fn insert(&mut self, key: IndexKey, number: u16) -> Effect {
        match self.entries.entry(hash(&key), |entry| entry.key == key, |entry| hash(&entry.key)) {
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { key, holders: HolderSet::one(number) });
                Effect::Block
            }
            hash_table::Entry::Occupied(mut entry) => {
                let mut sets = Sets { many: &mut self.many, free: &mut self.free };
                let fresh = sets.insert(&mut entry.get_mut().holders, number);
                if fresh { Effect::Holder } else { Effect::None }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: IndexKey, number: u16) -> Effect {
        let Ok(mut entry) = self.entries.find_entry(hash(&key), |entry| entry.key == key) else {
            return Effect::None;
        };
        let mut sets = Sets { many: &mut self.many, free: &mut self.free };
        let effect = sets.remove(&mut entry.get_mut().holders, number);
        if effect == Effect::Block {
            entry.remove();
        }
        effect
    }

    /// Removes every number of `retired`, giving each to `removed`; room that this empties goes back.
    pub(crate) fn sweep(&mut self, retired: &Bits, mut removed: impl FnMut(u16)) {
        let mut sets = Sets { many: &mut self.many, free: &mut self.free };
        self.entries.retain(|entry| sets.sweep(&mut entry.holders, retired, &mut removed));
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to_fit(|entry| hash(&entry.key));
        }
    }

    /// Blocks of one number, in no particular order.
    pub(crate) fn held_by(&self, number: u16) -> impl Iterator<Item = IndexKey> {
        let entries = self.entries.iter().filter(move |entry| self.holders(entry).contains(number));
        entries.map(|entry| entry.key)
    }

    /// Every block, ascending by key.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (IndexKey, Holders<'_>)> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        entries.into_iter().map(|entry| (entry.key, self.holders(entry)))
    }
}

/// The bit sets, apart from the table whose entries name them.
struct Sets<'a> {
    many: &'a mut Vec<Bits>,
    free: &'a mut Vec<u32>,
}

impl Sets<'_> {
    fn insert(&mut self, set: &mut HolderSet, number: u16) -> bool {
        let (len, numbers) = match set {
            HolderSet::Many(at) => return self.many[*at as usize].insert(number),
            HolderSet::Few { len, numbers } => (usize::from(*len), *numbers),
        };
        let Err(at) = numbers[..len].binary_search(&number) else {
            return false;
        };
        let grown = numbers[..at].iter().copied().chain([number]).chain(numbers[at..len].iter().copied());
        *set = if len < HolderSet::FEW { HolderSet::few(grown) } else { self.keep(grown) };
        true
    }

    /// A new bit set with these numbers.
    fn keep(&mut self, numbers: impl Iterator<Item = u16>) -> HolderSet {
        let mut bits = Bits::default();
        numbers.for_each(|number| {
            bits.insert(number);
        });
        if let Some(at) = self.free.pop() {
            self.many[at as usize] = bits;
            return HolderSet::Many(at);
        }
        self.many.push(bits);
        HolderSet::Many(u32::try_from(self.many.len() - 1).expect("a partition has fewer blocks than u32 counts"))
    }

    /// [`Effect::Block`] if the set is empty now; the entry must then go.
    fn remove(&mut self, set: &mut HolderSet, number: u16) -> Effect {
        match set {
            HolderSet::Few { len, numbers } => {
                let (len, numbers) = (usize::from(*len), *numbers);
                let held = &numbers[..len];
                if !held.contains(&number) {
                    return Effect::None;
                }
                *set = HolderSet::few(held.iter().copied().filter(|held| *held != number));
                if len == 1 { Effect::Block } else { Effect::Holder }
            }
            HolderSet::Many(at) => {
                if !self.many[*at as usize].remove(number) {
                    return Effect::None;
                }
                *set = self.shrink(*at);
                Effect::Holder
            }
        }
    }

    /// Removes every number of `retired`; `false` if the set is empty now.
    fn sweep(&mut self, set: &mut HolderSet, retired: &Bits, mut removed: impl FnMut(u16)) -> bool {
        match set {
            HolderSet::Few { len, numbers } => {
                let (len, numbers) = (usize::from(*len), *numbers);
                let (held, gone) = (numbers[..len].iter().copied(), |number: &u16| retired.contains(*number));
                held.clone().filter(gone).for_each(&mut removed);
                *set = HolderSet::few(held.filter(|number| !gone(number)));
            }
            HolderSet::Many(at) => {
                let bits = &mut self.many[*at as usize];
                for number in retired.iter() {
                    if bits.remove(number) {
                        removed(number);
                    }
                }
                *set = self.shrink(*at);
            }
        }
        !matches!(set, HolderSet::Few { len: 0, .. })
    }

    /// The set at this place, inline again if it has become small.
    fn shrink(&mut self, at: u32) -> HolderSet {
        let bits = &mut self.many[at as usize];
        if bits.count() > HolderSet::FEW {
            return HolderSet::Many(at);
        }
        self.free.push(at);
        HolderSet::few(std::mem::take(bits).iter())
    }
}
