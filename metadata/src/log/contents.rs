//! What the log holds, in memory: where each entry lies on disk, and the most recent entries themselves. Pure.
//!
//! # Invariants
//! - `places` are consecutive, and begin right behind `purged` once anything was purged;
//! - `tail` holds the last `tail.len()` of them, and every entry that is not yet on disk is in it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::log::record;
use crate::raft::{Entry, LogId};
use crate::volume::VolumeFile;

/// Where a record lies.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) file: Arc<dyn VolumeFile>,
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

/// One entry of the log; `spot` is `None` until it is durable.
#[derive(Clone, Debug)]
struct Place {
    id: LogId,
    spot: Option<Spot>,
    /// Bytes of it and of those before it, counted from some place that is gone: differences mean something.
    end: u64,
}

/// An entry to be read: from memory, or from its place on disk.
#[derive(Debug)]
pub(crate) enum Found {
    Entry(Entry),
    OnDisk(LogId, Spot),
}

#[derive(Debug)]
pub(crate) struct Contents {
    places: VecDeque<Place>,
    purged: Option<LogId>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Contents {
    pub(crate) fn new(tail_bytes_max: usize) -> Self {
        Self { places: VecDeque::new(), purged: None, tail: VecDeque::new(), tail_bytes: 0, tail_bytes_max }
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// Last entry, or what was purged last.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.places.back().map(|place| place.id).or(self.purged)
    }

    pub(crate) fn first_index(&self) -> Option<u64> {
        self.places.front().map(|place| place.id.index)
    }

    /// Index that the next entry must have; an untouched log takes any.
    pub(crate) fn next_index(&self) -> Option<u64> {
        self.last().map(|id| id.index + 1)
    }

    pub(crate) fn entries(&self) -> usize {
        self.places.len()
    }

    /// An entry that was just handed over and is not on disk yet.
    pub(crate) fn push(&mut self, entry: Entry) {
        let bytes = record::entry_bytes(&entry);
        self.tail_bytes += bytes;
        self.places.push_back(Place { id: entry.log_id, spot: None, end: self.end_after(bytes) });
        self.tail.push_back(entry);
    }

    /// An entry found on disk at start.
    pub(crate) fn push_recovered(&mut self, id: LogId, spot: Spot) {
        self.places.push_back(Place { id, end: self.end_after(spot.bytes), spot: Some(spot) });
    }

    fn end_after(&self, bytes: usize) -> u64 {
        self.places.back().map_or(0, |place| place.end) + bytes as u64
    }

    /// Index of the last entry that may go so that `keep` bytes of entries, or an entry's length more, are left up to
    /// `covered`. `None`: all are wanted.
    pub(crate) fn purgeable(&self, covered: u64, keep: u64) -> Option<u64> {
        let last = self.position(covered)?.min(self.places.len() - 1);
        let end = self.places[last].end;
        let many = self.places.partition_point(|place| place.end + keep <= end);
        Some(self.places.get(many.checked_sub(1)?)?.id.index)
    }

    /// Forgets every entry found so far: the ones behind them were in segments that are gone.
    pub(crate) fn forget_recovered(&mut self) {
        self.places.clear();
    }

    /// The entry is durable, and may leave memory. One that was truncated meanwhile is left alone.
    pub(crate) fn place(&mut self, id: LogId, spot: Spot) {
        if let Some(at) = self.position(id.index)
            && let Some(place) = self.places.get_mut(at)
            && place.id == id
        {
            place.spot = Some(spot);
        }
        self.trim();
    }

    /// Forgets entries from `since` on.
    pub(crate) fn truncate(&mut self, since: u64) {
        while self.places.back().is_some_and(|place| place.id.index >= since) {
            self.places.pop_back();
        }
        while let Some(entry) = self.tail.pop_back_if(|entry| entry.log_id.index >= since) {
            self.tail_bytes -= record::entry_bytes(&entry);
        }
    }

    /// Forgets entries up to `upto`, which need not have been here.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.purged.is_none_or(|purged| purged.index < upto.index) {
            self.purged = Some(upto);
        }
        while self.places.front().is_some_and(|place| place.id.index <= upto.index) {
            self.places.pop_front();
        }
        while let Some(entry) = self.tail.pop_front_if(|entry| entry.log_id.index <= upto.index) {
            self.tail_bytes -= record::entry_bytes(&entry);
        }
    }

    /// The entries of `range` that are here, in order, at least one if any is, and no more once `bytes_max` is passed.
    pub(crate) fn find(&self, range: Range<u64>, bytes_max: usize) -> Vec<Found> {
        let tail_first = self.tail.front().map_or(u64::MAX, |entry| entry.log_id.index);
        let mut found = Vec::new();
        let mut bytes = 0;
        let start = self.first_index().map_or(range.start, |first| first.max(range.start));
        for index in start..range.end {
            let Some(place) = self.position(index).and_then(|at| self.places.get(at)) else { break };
            let (size, item) = match &place.spot {
                _ if index >= tail_first => {
                    let entry = &self.tail[usize::try_from(index - tail_first).expect("the tail is in memory")];
                    (record::entry_bytes(entry), Found::Entry(entry.clone()))
                }
                Some(spot) => (spot.bytes, Found::OnDisk(place.id, spot.clone())),
                None => unreachable!("an entry that is not on disk is in the tail"),
            };
            bytes += size;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(item);
        }
        found
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first_index()?)?).ok()
    }

    /// Lets go of the oldest entries in memory, as far as they are on disk.
    fn trim(&mut self) {
        while self.tail_bytes > self.tail_bytes_max {
            let durable = |entry: &mut Entry| {
                let at = self.places.front().map_or(0, |first| entry.log_id.index - first.id.index);
                usize::try_from(at).ok().and_then(|at| self.places.get(at)).is_some_and(|place| place.spot.is_some())
            };
            let Some(entry) = self.tail.pop_front_if(durable) else { return };
            self.tail_bytes -= record::entry_bytes(&entry);
        }
    }
}
