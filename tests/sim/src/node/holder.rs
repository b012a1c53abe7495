//! A simulated holder: what it holds is a set, and what metadata hears of it goes through the node's own outbox.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_index::{Change, Report};
use weft_node::testing::{Outbox, Truth};
use weft_types::{HolderGrant, IndexKey};

/// A holder of a node.
#[derive(Debug, Default)]
pub(super) struct Holder {
    pub(super) truth: Arc<Held>,
    pub(super) outbox: Outbox,
    /// The outbox is with who compares it.
    pub(super) compared: bool,
    /// The first report sent under the present grant.
    pub(super) first: Option<Report>,
}

/// What it holds, and what of it was not told to the outbox yet.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: BTreeSet<IndexKey>,
    changes: Vec<Change>,
    overflowed: bool,
}

/// What goes wrong with a holder, unnoticed or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mishap {
    /// Blocks come and go, and nobody is told.
    Unnoticed,
    /// More changes came than could be kept.
    Overflow,
}

impl Held {
    pub(super) fn change(&self, change: Change) {
        let state = &mut *self.0.lock();
        if take_effect(&mut state.held, change) {
            state.changes.push(change);
        }
    }

    pub(super) fn suffer(&self, mishap: Mishap, changes: &[Change]) {
        let State { held, changes: noticed, overflowed } = &mut *self.0.lock();
        match mishap {
            Mishap::Unnoticed => {
                // Of what is being told just now the node knows.
                let told = |change: &Change| noticed.iter().any(|noticed| key(noticed) == key(change));
                changes.iter().filter(|change| !told(change)).for_each(|change| _ = take_effect(held, *change));
            }
            Mishap::Overflow => {
                changes.iter().for_each(|change| _ = take_effect(held, *change));
                noticed.clear();
                *overflowed = true;
            }
        }
    }

    pub(super) fn held(&self) -> BTreeSet<IndexKey> {
        self.0.lock().held.clone()
    }

    pub(super) fn is_told(&self) -> bool {
        let state = self.0.lock();
        state.changes.is_empty() && !state.overflowed
    }
}

impl State {
    fn take_changes(&mut self) -> Option<Vec<Change>> {
        let changes = std::mem::take(&mut self.changes);
        (!std::mem::take(&mut self.overflowed)).then_some(changes)
    }
}

impl Truth for Held {
    fn take_changes(&self) -> Option<Vec<Change>> {
        self.0.lock().take_changes()
    }

    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>> {
        let mut state = self.0.lock();
        state.held.iter().copied().for_each(each);
        state.take_changes()
    }
}

impl Holder {
    pub(super) fn start(&mut self, grant: HolderGrant) {
        self.first = None;
        let mut held = Vec::new();
        // What led there is part of what is held.
        drop(self.truth.cut(&mut |key| held.push(key)));
        self.outbox.start(grant, held);
    }

    pub(super) fn batch(&mut self, max: usize) -> Vec<Report> {
        let batch = self.outbox.next_batch(max);
        if self.first.is_none() {
            self.first = batch.first().cloned();
        }
        batch
    }

    pub(super) fn is_quiet(&self) -> bool {
        // While it is compared, everything of it is acknowledged.
        let said = self.compared || (!self.outbox.is_stale() && self.outbox.waiting() == 0);
        said && self.truth.is_told()
    }
}

fn take_effect(held: &mut BTreeSet<IndexKey>, change: Change) -> bool {
    match change {
        Change::Stored(key) => held.insert(key),
        Change::Removed(key) => held.remove(&key),
    }
}

fn key(change: &Change) -> &IndexKey {
    match change {
        Change::Stored(key) | Change::Removed(key) => key,
    }
}
