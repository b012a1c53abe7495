//! What calls may know of the directory without waiting: applying an entry of reports holds its lock for milliseconds.
//!
//! Blocks are read in the index itself, beside the entry that is being applied; all else is as the last entry left it.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_index::{IndexReader, Match};
use weft_metadata_state::Limits;
use weft_types::{IndexKey, LogTime, Roster, Serial};

use super::State;

/// What the last entry left behind: for whoever must not wait until the next one is applied.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// Its log index.
    pub(crate) index: u64,
    /// Latest stamp.
    pub(crate) log_time: LogTime,
    pub(crate) roster: Arc<Roster>,
    /// Certificates on the deny list.
    pub(crate) revoked: Arc<BTreeSet<Serial>>,
    blocks: IndexReader,
    pub(crate) limits: Limits,
    pub(crate) sweep_due: bool,
}

impl Glance {
    /// Nothing but blocks has changed since `before`.
    pub(super) fn after(before: &Self, state: &State) -> Arc<Self> {
        Self::of(state, Arc::clone(&before.roster), Arc::clone(&before.revoked))
    }

    fn of(state: &State, roster: Arc<Roster>, revoked: Arc<BTreeSet<Serial>>) -> Arc<Self> {
        let State { directory, .. } = state;
        let (log_time, limits, sweep_due) = (directory.log_time(), directory.limits(), directory.sweep_due());
        Arc::new(Self {
            index: state.index(),
            log_time,
            roster,
            revoked,
            blocks: directory.reader(),
            limits,
            sweep_due,
        })
    }

    /// Anything may have changed.
    pub(super) fn anew(state: &State) -> Arc<Self> {
        let revoked = state.directory.accounts().revoked().keys().cloned().collect();
        Self::of(state, Arc::new(state.directory.roster().clone()), Arc::new(revoked))
    }
}

/// Leading blocks by holder, and what was left behind by an entry not later than that: every holder matched is in its roster, or
/// has gone since. `glance`: what the last entry left behind.
pub(crate) fn lookup(glance: impl Fn() -> Arc<Glance>, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Glance>) {
    let mut before = glance();
    loop {
        let matches = before.blocks.leading(prefix);
        let after = glance();
        // Blocks of a holder come after the roster in which it was granted. So if that is the same still, no number that was
        // matched means another holder by now.
        if Arc::ptr_eq(&before.roster, &after.roster) {
            return (matches, before);
        }
        before = after;
    }
}
