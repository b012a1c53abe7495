//! What calls may know of the directory without waiting: applying an entry of reports holds its lock for milliseconds.

use std::sync::Arc;

use weft_metadata_state::Limits;
use weft_types::{LogTime, Roster};

use super::State;

/// What the last entry left behind, apart from blocks: for whoever must not wait until the next one is applied.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// Its log index.
    pub(crate) index: u64,
    /// Latest stamp.
    pub(crate) log_time: LogTime,
    pub(crate) roster: Arc<Roster>,
    pub(crate) limits: Limits,
    pub(crate) sweep_due: bool,
}

impl Glance {
    /// The roster has not changed since `roster`.
    pub(super) fn of(state: &State, roster: Arc<Roster>) -> Arc<Self> {
        let State { directory, .. } = state;
        let (log_time, limits, sweep_due) = (directory.log_time(), directory.limits(), directory.sweep_due());
        Arc::new(Self { index: state.index(), log_time, roster, limits, sweep_due })
    }

    /// The roster may have changed.
    pub(super) fn anew(state: &State) -> Arc<Self> {
        Self::of(state, Arc::new(state.directory.roster().clone()))
    }
}
