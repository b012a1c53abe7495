//! What must hold, one invariant a file, named as a sentence. Each is told what it needs to know as it happens, and says when
//! it does not hold.

pub(crate) mod a_budget_is_never_exceeded;
pub(crate) mod a_lookup_never_names_a_fenced_holder;
pub(crate) mod accounts_are_linearisable;
pub(crate) mod divergence_returns_to_zero_once_quiet;
pub(crate) mod leaders_follow_one_another;
pub(crate) mod log_time_never_goes_back;
pub(crate) mod no_acknowledged_fact_is_lost;
pub(crate) mod replicas_apply_the_same;
pub(crate) mod the_audit_names_each_request_once;
pub(crate) mod the_follower_equals_the_directory_once_quiet;
pub(crate) mod the_group_is_as_it_was_changed;
pub(crate) mod the_index_equals_the_holdings_once_quiet;
pub(crate) mod what_is_committed_never_changes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use weft_metadata::testing::{Observe, Seen, Standing};

use self::a_budget_is_never_exceeded::Budgets;
use self::a_lookup_never_names_a_fenced_holder::Lives;
use self::leaders_follow_one_another::Leaders;
use self::log_time_never_goes_back::Clocks;
use self::no_acknowledged_fact_is_lost::Acknowledged;
use self::replicas_apply_the_same::Outcomes;
use self::what_is_committed_never_changes::Committed;
use crate::chronicle::Chronicle;

/// The invariants that watch while the world runs.
#[derive(Debug)]
pub(crate) struct Invariants {
    chronicle: Arc<Chronicle>,
    watching: Mutex<Watching>,
}

#[derive(Debug, Default)]
pub(crate) struct Watching {
    leaders: Leaders,
    committed: Committed,
    outcomes: Outcomes,
    clocks: Clocks,
    lives: Lives,
    budgets: Budgets,
    acknowledged: Acknowledged,
}

/// One member, as the invariants see it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    member: u64,
    invariants: Arc<Invariants>,
    /// It lost its power: what is left of it in memory says nothing more.
    gone: Arc<AtomicBool>,
}

impl Invariants {
    /// None violated yet.
    #[must_use]
    pub(crate) fn new(chronicle: Arc<Chronicle>) -> Self {
        Self { chronicle, watching: Mutex::default() }
    }

    /// A member was looked at.
    pub(crate) fn stands(&self, member: u64, standing: Standing) {
        self.check(leaders_follow_one_another::NAME, |watching| watching.leaders.stands(member, standing));
    }

    /// A member began anew from what its disk held.
    pub(crate) fn restarted(&self, member: u64) {
        self.watching.lock().clocks.restarted(member);
    }

    /// Lets an invariant look at something; what it returns is how it is violated.
    pub(crate) fn check(&self, name: &str, look: impl FnOnce(&mut Watching) -> Result<(), String>) {
        if let Err(how) = look(&mut self.watching.lock()) {
            self.chronicle.violated(name, how);
        }
    }

    /// A lookup was answered.
    pub(crate) fn answered(&self, applied: u64, grants: &[weft_types::HolderGrant]) {
        self.check(a_lookup_never_names_a_fenced_holder::NAME, |watching| watching.lives.answered(applied, grants));
    }

    /// Facts that metadata acknowledged.
    pub(crate) fn acknowledged<T>(&self, note: impl FnOnce(&mut Acknowledged) -> T) -> T {
        note(&mut self.watching.lock().acknowledged)
    }
}

impl Witness {
    /// Of one life of a member.
    #[must_use]
    pub(crate) fn new(member: u64, invariants: Arc<Invariants>) -> Self {
        Self { member, invariants, gone: Arc::default() }
    }

    /// That life is over.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Observe for Witness {
    fn applied(&self, seen: &Seen<'_>) {
        if self.is_gone() {
            return;
        }
        let (invariants, member) = (&self.invariants, self.member);
        invariants.chronicle.note(format_args!(
            "member {member} applies {}.{} {}",
            seen.term,
            seen.index,
            replicas_apply_the_same::summary(seen),
        ));
        invariants.check(leaders_follow_one_another::NAME, |watching| watching.leaders.applied(seen));
        invariants.check(what_is_committed_never_changes::NAME, |watching| watching.committed.applied(member, seen));
        invariants.check(replicas_apply_the_same::NAME, |watching| watching.outcomes.applied(member, seen));
        invariants.check(log_time_never_goes_back::NAME, |watching| watching.clocks.applied(member, seen));
        invariants.check(a_budget_is_never_exceeded::NAME, |watching| watching.budgets.applied(seen));
        invariants.watching.lock().lives.applied(seen);
    }

    fn jumped(&self, index: u64) {
        if self.is_gone() {
            return;
        }
        self.invariants.chronicle.note(format_args!("member {} takes over a snapshot of {index}", self.member));
    }
}
