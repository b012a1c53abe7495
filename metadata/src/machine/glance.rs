//! What calls may know of the directory without waiting: applying an entry of reports holds its lock for milliseconds.
//!
//! Blocks are read in the index itself, beside the entry that is being applied; all else is as the last entry left it.

use std::sync::Arc;

use weft_index::{IndexReader, Match};
use weft_metadata_state::Limits;
use weft_types::{IndexKey, LogTime, Roster};

use super::State;

/// What the last entry left behind: for whoever must not wait until the next one is applied.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// Its log index.
    pub(crate) index: u64,
    /// Latest stamp.
    pub(crate) log_time: LogTime,
    pub(crate) roster: Arc<Roster>,
    blocks: IndexReader,
    pub(crate) limits: Limits,
    pub(crate) sweep_due: bool,
}

impl Glance {
    /// The roster has not changed since `roster`.
    pub(super) fn of(state: &State, roster: Arc<Roster>) -> Arc<Self> {
        let State { directory, .. } = state;
        let (log_time, limits, sweep_due) = (directory.log_time(), directory.limits(), directory.sweep_due());
        Arc::new(Self { index: state.index(), log_time, roster, blocks: directory.reader(), limits, sweep_due })
    }

    /// The roster may have changed.
    pub(super) fn anew(state: &State) -> Arc<Self> {
        Self::of(state, Arc::new(state.directory.roster().clone()))
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
