//! The index as it was at one moment, while the writer goes on.
//!
//! Nothing is copied when the index is frozen. The writer copies a segment (32 KiB) before its first change after that, for
//! every view that has not walked it yet; so a freeze costs at most one copy of the slab, spread over the changes that
//! follow. Sets that are named no more keep their records as long as a view may read them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use weft_types::{HolderId, IndexKey};

use crate::key::Key;
use crate::sets::{SetId, Sets};
use crate::shared::Shared;
use crate::slab::{SEGMENT_SLOTS, Segment};

/// Blocks that lie one behind the other and are held by the same holders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Ascending, at least one.
    pub holders: Vec<HolderId>,
    /// At least one, at most [`Run::BLOCKS_MAX`].
    pub keys: Vec<IndexKey>,
}

impl Run {
    /// Blocks of one run.
    pub const BLOCKS_MAX: usize = SEGMENT_SLOTS;
}

/// A view of the index as it was when it was frozen; iterated once, in the order in which blocks lie in memory, which is
/// mostly the order of prompts. What only retired holders had is in it.
pub struct Frozen {
    shared: Arc<Shared>,
    view: Arc<View>,
    segments: usize,
    blocks: usize,
    cut: Cut,
}

/// The writer's side of all views.
#[derive(Default)]
pub(crate) struct Freezes {
    /// Raised by each freeze.
    epoch: u64,
    /// By segment: the epoch for which it was saved last.
    saved_at: Vec<u64>,
    views: Vec<(u64, Weak<View>)>,
}

#[derive(Default)]
struct View(Mutex<Saved>);

#[derive(Default)]
struct Saved {
    /// Segments before this one were walked.
    walked: usize,
    segments: BTreeMap<usize, Arc<Copied>>,
}

/// A segment's slots.
struct Copied(Vec<(Key, SetId)>);

impl Freezes {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Epoch of the oldest view that is left; with none, past all.
    pub(crate) fn oldest(&self) -> u64 {
        let live = self.views.iter().filter(|(_, view)| view.strong_count() > 0);
        live.map(|(epoch, _)| *epoch).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn add_segment(&mut self) {
        self.saved_at.push(self.epoch);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.saved_at.capacity() * size_of::<u64>()
    }

    pub(crate) fn freeze(&mut self, shared: &Arc<Shared>, blocks: usize) -> Frozen {
        self.epoch += 1;
        let view = Arc::<View>::default();
        self.views.retain(|(_, view)| view.strong_count() > 0);
        self.views.push((self.epoch, Arc::downgrade(&view)));
        Frozen { shared: Arc::clone(shared), view, segments: self.saved_at.len(), blocks, cut: Cut::default() }
    }

    /// Must come before any change of a slot in this segment.
    #[inline]
    pub(crate) fn before_change(&mut self, shared: &Shared, segment: usize) {
        if self.saved_at[segment] != self.epoch {
            self.save(shared, segment);
        }
    }

    #[cold]
    fn save(&mut self, shared: &Shared, number: usize) {
        let last = std::mem::replace(&mut self.saved_at[number], self.epoch);
        let mut copy = None;
        // Views made before the segment was saved last have it already.
        let lacking = self.views.iter().filter(|(epoch, _)| *epoch > last);
        for view in lacking.filter_map(|(_, view)| view.upgrade()) {
            let mut saved = view.0.lock();
            if saved.walked <= number {
                let copy = copy.get_or_insert_with(|| Arc::new(Copied::of(shared, number)));
                saved.segments.insert(number, Arc::clone(copy));
            }
        }
    }
}

impl Copied {
    fn of(shared: &Shared, number: usize) -> Self {
        let segment: &Segment = shared.slab.segment(number).expect("only segments that exist are walked");
        Self((0..SEGMENT_SLOTS).map(|at| (shared.slab.key(segment, at), segment.set(at))).collect())
    }
}

impl Frozen {
    /// Distinct blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks
    }

    /// No blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }
}

impl Iterator for Frozen {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            if let Some(run) = self.cut.next(&self.shared.sets) {
                return Some(run);
            }
            let mut saved = self.view.0.lock();
            let number = saved.walked;
            if number == self.segments {
                return None;
            }
            // Unsaved: the writer has not changed it, and does not while the lock is held.
            let copied = saved.segments.remove(&number);
            let copied = copied.unwrap_or_else(|| Arc::new(Copied::of(&self.shared, number)));
            saved.walked = number + 1;
            drop(saved);
            self.cut.begin(copied);
        }
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// Runs of the index as it is, while nobody writes.
pub(crate) fn runs(shared: &Shared, segments: usize) -> impl Iterator<Item = Run> + '_ {
    (0..segments).flat_map(move |number| {
        let mut cut = Cut::default();
        cut.begin(Arc::new(Copied::of(shared, number)));
        std::iter::from_fn(move || cut.next(&shared.sets))
    })
}

/// Cuts a segment into runs.
#[derive(Default)]
struct Cut {
    segment: Option<Arc<Copied>>,
    at: usize,
}

impl Cut {
    fn begin(&mut self, segment: Arc<Copied>) {
        (self.segment, self.at) = (Some(segment), 0);
    }

    fn next(&mut self, sets: &Sets) -> Option<Run> {
        let slots = &self.segment.as_ref()?.0[self.at..];
        let held = |(_, set): &&(Key, SetId)| *set != SetId::FREE;
        let (_, set) = slots.iter().find(held)?;
        let mut keys = Vec::new();
        let mut looked_at = 0;
        for (key, other) in slots {
            if other == set {
                keys.push(IndexKey::from(*key));
            } else if *other != SetId::FREE {
                break;
            }
            looked_at += 1;
        }
        self.at += looked_at;
        let mut holders = Vec::new();
        sets.content(*set).for_each(|number| holders.push(HolderId::new(u32::from(number))));
        Some(Run { holders, keys })
    }
}
