//! Which block is where on disk: a table in memory, and one list a segment.
//!
//! A block is stored once, in the list of its segment, and the table holds a place of 8 bytes in such a list; the list is what
//! the segment's footer says, so a segment goes without a walk over the others. About 60 bytes a block in all.

use hashbrown::HashTable;
use weft_types::{BlockHash, Checksum};

use super::format::{FooterEntry, pages};
use crate::{ChangeLog, LeasedKeys, TierChange};

/// Changes kept for the reporter. It takes them every few milliseconds; beyond, everything held is reported anew.
const CHANGES_MAX: usize = 1 << 18;

/// Every block on disk.
#[derive(Debug)]
pub(super) struct Index {
    places: HashTable<Place>,
    /// By number.
    segments: Vec<Segment>,
    bytes: u64,
    /// Those of which there ever was a block, since the start.
    contracts: Vec<Checksum>,
    changes: ChangeLog,
}

/// A block in the list of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: u32,
    entry: u32,
}

/// Where to read a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) page: u32,
    pub(super) bytes: u32,
}

/// A segment, as the index knows it.
#[derive(Debug)]
struct Segment {
    generation: u64,
    state: SegmentState,
    entries: Vec<Entry>,
}

/// What a segment is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SegmentState {
    /// Not made yet.
    Absent,
    /// May be begun anew.
    Free,
    /// Being written.
    Active,
    /// Written, readable.
    Sealed,
    /// The device failed on it: left alone until the next start.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    block: BlockHash,
    page: u32,
    bytes: u32,
    /// Position in the list of contracts.
    contract: u16,
    /// Reads since it was written, as far as they are counted.
    uses: u8,
    /// Whether the table points here.
    live: bool,
}

impl Index {
    /// Nothing, in so many segments.
    pub(super) fn new(segments: u32) -> Self {
        let absent = || Segment { generation: 0, state: SegmentState::Absent, entries: Vec::new() };
        Self {
            places: HashTable::new(),
            segments: std::iter::repeat_with(absent).take(segments as usize).collect(),
            bytes: 0,
            contracts: Vec::new(),
            changes: ChangeLog::new(CHANGES_MAX),
        }
    }

    /// Where a block is.
    pub(super) fn find(&self, block: &BlockHash) -> Option<Found> {
        let place = *self.places.find(hash(block), |place| self.entry(*place).block == *block)?;
        let entry = self.entry(place);
        let generation = self.segments[place.segment as usize].generation;
        Some(Found { place, generation, page: entry.page, bytes: entry.bytes })
    }

    /// A block was written. A place it had before is forgotten.
    pub(super) fn insert(&mut self, segment: u32, written: FooterEntry) {
        let known = self.forget(&written.block).is_some();
        let contract = self.contract(written.contract);
        let entries = &mut self.segments[segment as usize].entries;
        let place = Place { segment, entry: u32::try_from(entries.len()).unwrap_or(u32::MAX) };
        entries.push(Entry {
            block: written.block,
            page: written.page,
            bytes: written.bytes,
            contract,
            uses: 0,
            live: true,
        });
        self.bytes += u64::from(written.bytes);
        let segments = &self.segments;
        let hasher = |place: &Place| hash(&segments[place.segment as usize].entries[place.entry as usize].block);
        self.places.insert_unique(hash(&written.block), place, hasher);
        if !known {
            self.changes.push(TierChange::Stored(written.block));
        }
    }

    /// A contract's position. Of more than 65,536 the last share one: what is cleared of it then is of them all.
    fn contract(&mut self, contract: Checksum) -> u16 {
        let known = self.contracts.iter().position(|known| *known == contract);
        let position = known.unwrap_or_else(|| {
            self.contracts.truncate(usize::from(u16::MAX));
            self.contracts.push(contract);
            self.contracts.len() - 1
        });
        u16::try_from(position).unwrap_or(u16::MAX)
    }

    /// A block was read.
    pub(super) fn used(&mut self, found: &Found) {
        if self.is_current(found) {
            let entry = &mut self.segments[found.place.segment as usize].entries[found.place.entry as usize];
            entry.uses = entry.uses.saturating_add(1);
        }
    }

    /// A block is no longer on disk. `false` when it was not.
    pub(super) fn remove(&mut self, block: &BlockHash) -> bool {
        let removed = self.forget(block).is_some();
        if removed {
            self.changes.push(TierChange::Removed(*block));
        }
        removed
    }

    /// What was found there is not the block. `false` when it has moved, or gone, meanwhile.
    pub(super) fn remove_found(&mut self, block: &BlockHash, found: &Found) -> bool {
        self.find(block) == Some(*found) && self.remove(block)
    }

    /// Whether the place still holds what was found there.
    pub(super) fn is_current(&self, found: &Found) -> bool {
        let segment = &self.segments[found.place.segment as usize];
        let entry = segment.entries.get(found.place.entry as usize);
        segment.generation == found.generation && entry.is_some_and(|entry| entry.live && entry.page == found.page)
    }

    /// State and generation of a segment.
    pub(super) fn set(&mut self, segment: u32, state: SegmentState, generation: u64) {
        let segment = &mut self.segments[segment as usize];
        (segment.state, segment.generation) = (state, generation);
    }

    /// State of a segment.
    pub(super) fn set_state(&mut self, segment: u32, state: SegmentState) {
        self.segments[segment as usize].state = state;
    }

    /// First segment in this state.
    pub(super) fn first(&self, state: SegmentState) -> Option<u32> {
        let segment = self.segments.iter().position(|segment| segment.state == state)?;
        u32::try_from(segment).ok()
    }

    /// The sealed segments, that which was begun first in front.
    pub(super) fn sealed(&self) -> Vec<u32> {
        let sealed = self.segments.iter().zip(0..).filter(|(segment, _)| segment.state == SegmentState::Sealed);
        let mut sealed: Vec<_> = sealed.map(|(segment, number)| (segment.generation, number)).collect();
        sealed.sort_unstable();
        sealed.into_iter().map(|(_, number)| number).collect()
    }

    /// Number of segments, in whatever state.
    pub(super) fn segments(&self) -> u32 {
        u32::try_from(self.segments.len()).unwrap_or(u32::MAX)
    }

    /// Pages that those blocks of a segment take which leases pin, with their records.
    pub(super) fn leased_pages(&self, segment: u32, leased: &LeasedKeys) -> u64 {
        let live = self.segments[segment as usize].entries.iter().filter(|entry| entry.live);
        let leased = live.filter(|entry| leased.contains(&entry.block.index_key()));
        leased.map(|entry| 1 + pages(u64::from(entry.bytes))).sum()
    }

    /// Segments in this state.
    pub(super) fn count(&self, state: SegmentState) -> usize {
        self.segments.iter().filter(|segment| segment.state == state).count()
    }

    /// Blocks of a segment that should outlive it, and whether a lease pins them: those first, then those that were read since
    /// they were written, most read first.
    pub(super) fn worth_keeping(&self, segment: u32, leased: &LeasedKeys) -> Vec<(BlockHash, Found, bool)> {
        let (number, segment) = (segment, &self.segments[segment as usize]);
        let is_leased = |entry: &Entry| leased.contains(&entry.block.index_key());
        let live = segment.entries.iter().zip(0..).filter(|(entry, _)| entry.live);
        let worth = live.map(|(entry, at)| (entry, at, is_leased(entry)));
        let mut worth: Vec<_> = worth.filter(|(entry, _, leased)| *leased || entry.uses > 0).collect();
        worth.sort_by_key(|(entry, at, leased)| (!leased, std::cmp::Reverse(entry.uses), *at));
        let found = |(entry, at, leased): (&Entry, u32, bool)| {
            let place = Place { segment: number, entry: at };
            let found = Found { place, generation: segment.generation, page: entry.page, bytes: entry.bytes };
            (entry.block, found, leased)
        };
        worth.into_iter().map(found).collect()
    }

    /// Forgets every block of a segment; returns how many there were.
    pub(super) fn empty(&mut self, segment: u32) -> usize {
        let entries = std::mem::take(&mut self.segments[segment as usize].entries);
        let mut gone = 0;
        for (entry, number) in entries.iter().zip(0..).filter(|(entry, _)| entry.live) {
            let place = Place { segment, entry: number };
            if let Ok(found) = self.places.find_entry(hash(&entry.block), |other| *other == place) {
                found.remove();
            }
            self.bytes -= u64::from(entry.bytes);
            self.changes.push(TierChange::Removed(entry.block));
            gone += 1;
        }
        gone
    }

    /// What a segment's footer should say.
    pub(super) fn footer(&self, segment: u32) -> Vec<FooterEntry> {
        let live = self.segments[segment as usize].entries.iter().filter(|entry| entry.live);
        live.map(|entry| FooterEntry {
            block: entry.block,
            page: entry.page,
            bytes: entry.bytes,
            contract: self.contracts[usize::from(entry.contract)],
        })
        .collect()
    }

    /// Every block.
    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockHash> {
        self.places.iter().map(|place| self.entry(*place).block)
    }

    /// How many blocks.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of their data.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that this index takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let lists: usize = self.segments.iter().map(|segment| segment.entries.capacity() * size_of::<Entry>()).sum();
        self.places.allocation_size() + lists + self.segments.capacity() * size_of::<Segment>()
    }

    /// What changed since the log was last taken.
    pub(super) fn changes(&mut self) -> &mut ChangeLog {
        &mut self.changes
    }

    fn entry(&self, place: Place) -> &Entry {
        &self.segments[place.segment as usize].entries[place.entry as usize]
    }

    fn forget(&mut self, block: &BlockHash) -> Option<Place> {
        let segments = &mut self.segments;
        let block_at = |place: &Place| segments[place.segment as usize].entries[place.entry as usize].block;
        let found = self.places.find_entry(hash(block), |place| block_at(place) == *block).ok()?;
        let (place, _) = found.remove();
        let entry = &mut segments[place.segment as usize].entries[place.entry as usize];
        entry.live = false;
        self.bytes -= u64::from(entry.bytes);
        Some(place)
    }
}

/// A block hash is as good as random already.
fn hash(block: &BlockHash) -> u64 {
    let (head, _) = block.as_bytes().split_first_chunk().expect("32 bytes begin with 8");
    u64::from_le_bytes(*head)
}
