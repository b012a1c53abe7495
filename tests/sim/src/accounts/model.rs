//! What a tenant's account may do, one call at a time: its settings, its keys, and its leases within the budget.
//!
//! A lease ends by itself, and nobody is told: it may be gone from when its time has come, and is there until something that
//! was seen says that it is not. Log-stamped time runs no faster than the simulation's, so a lease granted by a call that began
//! at `t` lasts to `t + ttl` at least.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_types::{KeyId, LogTime, TenantSettings};

use crate::linear::{Model, Timed};

/// A lease, by the first block of its prefix, which is no other's.
pub(crate) type Tag = u32;

/// Blocks of a prefix but its first, which leases share: a bit each.
pub(crate) type Shared = u64;

/// A tenant's account.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Account {
    /// `None`: there is no such tenant.
    tenant: Option<Tenant>,
    leases: BTreeMap<Tag, Lease>,
    /// The last thing that happened was not before this.
    not_before: u64,
}

/// A tenant that is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Tenant {
    pub(crate) settings: Settings,
    pub(crate) keys: BTreeSet<KeyId>,
}

/// Of its settings what the simulation sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Settings {
    pub(crate) weight: u16,
    pub(crate) lease_blocks_max: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Lease {
    shared: Shared,
    /// It lasts to then at least, if that was told.
    until: Option<LogTime>,
    /// It does not end by itself before.
    ends_from: u64,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Put(Settings),
    Remove,
    AddKey(KeyId),
    RemoveKey(KeyId),
    Grant { tag: Tag, shared: Shared, ttl: Duration },
    Renew { tag: Tag, ttl: Duration },
    Release { tag: Tag },
    Read,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Nobody knows.
    Unknown,
    Done,
    Leased(LogTime),
    Refused,
    /// The tenant was seen as it is.
    Tenant(Option<Tenant>),
    /// These leases were seen, and no other.
    Leases(BTreeSet<Tag>),
}

/// Both.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) action: Action,
    pub(crate) answer: Answer,
}

impl From<&TenantSettings> for Settings {
    fn from(settings: &TenantSettings) -> Self {
        Self { weight: settings.weight, lease_blocks_max: settings.lease_blocks_max }
    }
}

impl Account {
    fn pinned(&self) -> u32 {
        let shared = self.leases.values().fold(0, |shared, lease| shared | lease.shared);
        shared.count_ones() + u32::try_from(self.leases.len()).expect("few leases")
    }

    fn takes(&self, shared: Shared) -> bool {
        let Some(tenant) = &self.tenant else { return false };
        let known = self.leases.values().fold(0, |shared, lease| shared | lease.shared);
        self.pinned() + 1 + (shared & !known).count_ones() <= tenant.settings.lease_blocks_max
    }

    /// A lease has ended by itself before `end`; `None`: it cannot have.
    fn without(&self, tag: Tag, end: u64) -> Option<Self> {
        let mut account = self.clone();
        let lease = account.leases.remove(&tag)?;
        account.not_before = account.not_before.max(lease.ends_from);
        (lease.ends_from <= end).then_some(account)
    }

    /// The least that must have ended by itself before `end`, so that a lease is granted: every way there is.
    fn making_room(&self, shared: Shared, end: u64) -> Vec<Self> {
        if self.tenant.is_none() || self.takes(shared) {
            return self.tenant.iter().map(|_| self.clone()).collect();
        }
        let fewer = self.leases.keys().filter_map(|tag| self.without(*tag, end));
        let mut ways: Vec<Self> = fewer.flat_map(|account| account.making_room(shared, end)).collect();
        ways.sort_by(|one, other| one.leases.keys().cmp(other.leases.keys()));
        ways.dedup();
        ways
    }

    fn change_tenant(&self, change: impl FnOnce(&mut Tenant) -> bool) -> Vec<Self> {
        let mut account = self.clone();
        let changed = account.tenant.as_mut().is_some_and(change);
        changed.then_some(account).into_iter().collect()
    }
}

impl Model for Account {
    type State = Self;
    type Call = Call;

    fn step(state: &Self, timed: &Timed<Call>) -> Vec<Self> {
        let end = timed.ended.unwrap_or(u64::MAX);
        if end < state.not_before {
            return Vec::new();
        }
        let Call { action, answer } = &timed.call;
        match answer {
            Answer::Refused => refuse(state, action, end),
            Answer::Tenant(seen) if *seen == state.tenant => vec![state.clone()],
            Answer::Leases(seen) => see(state, seen, end).into_iter().collect(),
            Answer::Tenant(_) => Vec::new(),
            Answer::Unknown | Answer::Done => happen(state, action, None, (timed.began, end)),
            Answer::Leased(until) => happen(state, action, Some(*until), (timed.began, end)),
        }
    }
}

/// Done.
fn happen(state: &Account, action: &Action, told: Option<LogTime>, (began, end): (u64, u64)) -> Vec<Account> {
    let last = |ttl: Duration| began + micros(ttl);
    match action {
        Action::Put(settings) => {
            let keys = state.tenant.as_ref().map(|tenant| tenant.keys.clone()).unwrap_or_default();
            vec![Account { tenant: Some(Tenant { settings: *settings, keys }), ..state.clone() }]
        }
        Action::Remove if state.tenant.is_some() => {
            vec![Account { not_before: state.not_before, ..Account::default() }]
        }
        Action::AddKey(key) => state.change_tenant(|tenant| tenant.keys.insert(key.clone())),
        Action::RemoveKey(key) => state.change_tenant(|tenant| tenant.keys.remove(key)),
        Action::Grant { tag, shared, ttl } => {
            let granted = Lease { shared: *shared, until: told, ends_from: last(*ttl) };
            let mut ways = state.making_room(*shared, end);
            ways.iter_mut().for_each(|account| _ = account.leases.insert(*tag, granted.clone()));
            ways
        }
        Action::Renew { tag, ttl } => {
            let mut account = state.clone();
            let Some(lease) = account.leases.get_mut(tag) else { return Vec::new() };
            if told.is_some() && told < lease.until {
                return Vec::new();
            }
            lease.until = told.or(lease.until);
            lease.ends_from = lease.ends_from.max(last(*ttl));
            vec![account]
        }
        Action::Release { tag } => {
            let mut account = state.clone();
            account.leases.remove(tag).map(|_| account).into_iter().collect()
        }
        Action::Remove | Action::Read => Vec::new(),
    }
}

/// Refused, for which there must be a reason.
fn refuse(state: &Account, action: &Action, end: u64) -> Vec<Account> {
    let has = |key| state.tenant.as_ref().map(|tenant| tenant.keys.contains(key));
    let rightly = match action {
        Action::Put(_) | Action::Read => false,
        Action::Remove => state.tenant.is_none(),
        Action::AddKey(key) => has(key) != Some(false),
        Action::RemoveKey(key) => has(key) != Some(true),
        Action::Grant { shared, .. } => !state.takes(*shared),
        Action::Renew { tag, .. } | Action::Release { tag } if state.leases.contains_key(tag) => {
            return state.without(*tag, end).into_iter().collect();
        }
        Action::Renew { .. } | Action::Release { .. } => true,
    };
    if rightly { vec![state.clone()] } else { Vec::new() }
}

fn see(state: &Account, seen: &BTreeSet<Tag>, end: u64) -> Option<Account> {
    if !seen.iter().all(|tag| state.leases.contains_key(tag)) {
        return None;
    }
    let mut gone = state.leases.keys().filter(|tag| !seen.contains(tag));
    gone.try_fold(state.clone(), |account, tag| account.without(*tag, end))
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("a run is shorter")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Refused, check};

    const SECOND: u64 = 1_000_000;
    const TTL: Duration = Duration::from_secs(10);

    fn put(lease_blocks_max: u32) -> (Action, Answer) {
        (Action::Put(Settings { weight: 1, lease_blocks_max }), Answer::Done)
    }

    fn grant(tag: Tag, shared: Shared) -> Action {
        Action::Grant { tag, shared, ttl: TTL }
    }

    fn leased(second: u64) -> Answer {
        Answer::Leased(LogTime::from_micros(second * SECOND))
    }

    fn leases(tags: &[Tag]) -> (Action, Answer) {
        (Action::Read, Answer::Leases(tags.iter().copied().collect()))
    }

    /// Calls, with the seconds of their beginning and end; 0: no end.
    fn accepts(history: &[((Action, Answer), u64, u64)]) -> bool {
        let timed = |((action, answer), began, ended): &((Action, Answer), u64, u64)| {
            let call = Call { action: action.clone(), answer: answer.clone() };
            Timed { call, began: began * SECOND, ended: (*ended > 0).then_some(ended * SECOND) }
        };
        let history: Vec<_> = history.iter().map(timed).collect();
        match check::<Account>(Account::default(), &history) {
            Ok(()) => true,
            Err(Refused::NotLinearisable { .. }) => false,
            Err(Refused::Undecided) => panic!("so short a history is decided"),
        }
    }

    #[test]
    fn two_grants_side_by_side_get_what_one_after_the_other_would() {
        let base = (put(3), 1, 2);
        let (one, two) = (grant(1, 0b01), grant(2, 0b10));
        let granted = |action: &Action| (action.clone(), leased(13));
        assert!(accepts(&[base.clone(), (granted(&one), 3, 5), ((two.clone(), Answer::Refused), 3, 5)]));
        assert!(!accepts(&[base.clone(), (granted(&one), 3, 5), (granted(&two), 3, 5)]), "twice the last room");
        let shares = grant(2, 0b01);
        assert!(!accepts(&[(put(2), 1, 2), (granted(&one), 3, 5), (granted(&shares), 3, 5)]));
        assert!(
            accepts(&[base.clone(), (granted(&one), 3, 5), (granted(&shares), 3, 5)]),
            "a shared block counts once"
        );
        assert!(!accepts(&[base.clone(), ((one.clone(), Answer::Refused), 3, 5)]), "refused without a reason");
        let raised = (put(9), 3, 5);
        assert!(
            accepts(&[base.clone(), raised, (granted(&one), 3, 5), (granted(&two), 3, 5)]),
            "beside a higher budget"
        );
        let lost = [base, (put(1), 3, 4), (granted(&one), 5, 6)];
        assert!(!accepts(&lost), "a budget that was set is forgotten");
    }

    #[test]
    fn a_lease_lasts_as_long_as_it_was_granted_for_and_may_then_be_gone() {
        let base = [(put(9), 1, 1), ((grant(1, 1), leased(12)), 2, 3)];
        let with = |more: &[((Action, Answer), u64, u64)]| accepts(&[&base[..], more].concat());
        let renew = |second| ((Action::Renew { tag: 1, ttl: TTL }, leased(second)), 8, 9);
        assert!(with(&[(leases(&[1]), 11, 11)]) && with(&[(leases(&[1]), 30, 30)]), "it is ended when there is time");
        assert!(!with(&[(leases(&[]), 11, 11)]), "too early");
        assert!(with(&[(leases(&[]), 12, 12)]));
        assert!(!with(&[(leases(&[]), 13, 13), (leases(&[1]), 14, 14)]), "gone, and there again");
        assert!(!with(&[renew(18), (leases(&[]), 13, 13)]), "the renewal was lost");
        assert!(with(&[renew(18), (leases(&[]), 19, 19)]));
        assert!(!with(&[renew(11)]), "renewed to an earlier end");
        let release = |answer| (Action::Release { tag: 1 }, answer);
        assert!(!with(&[(release(Answer::Refused), 4, 5)]) && with(&[(release(Answer::Refused), 14, 15)]));
        assert!(!with(&[(release(Answer::Done), 4, 5), (release(Answer::Done), 6, 7)]), "released twice");
        assert!(!with(&[(release(Answer::Done), 4, 5), (leases(&[1]), 6, 7)]), "a release was lost");
        let full = [(put(2), 4, 4), ((grant(2, 2), leased(15)), 5, 6)];
        assert!(!with(&full));
        assert!(
            with(&[(put(2), 4, 4), ((grant(2, 2), leased(23)), 13, 14), (leases(&[2]), 15, 15)]),
            "the first is gone"
        );
        assert!(!with(&[(put(2), 4, 4), ((grant(2, 2), leased(23)), 13, 14), (leases(&[1, 2]), 15, 15)]));
    }

    #[test]
    fn what_timed_out_may_have_happened_once() {
        let base = [(put(9), 1, 1), ((grant(1, 1), Answer::Unknown), 2, 0)];
        let with = |more: &[((Action, Answer), u64, u64)]| accepts(&[&base[..], more].concat());
        assert!(with(&[(leases(&[]), 3, 3), (leases(&[1]), 4, 4), (leases(&[]), 12, 12)]));
        assert!(with(&[(leases(&[]), 50, 50)]));
        assert!(!with(&[(leases(&[1]), 4, 4), (leases(&[]), 11, 11)]));
        assert!(!with(&[(leases(&[1]), 4, 4), (leases(&[]), 12, 12), (leases(&[1]), 13, 13)]));
    }

    #[test]
    fn keys_and_settings_are_what_was_last_put() {
        let key: KeyId = "a".parse().unwrap();
        let seen = |lease_blocks_max, keys: &[&KeyId]| {
            let settings = Settings { weight: 1, lease_blocks_max };
            let tenant = Tenant { settings, keys: keys.iter().copied().cloned().collect() };
            (Action::Read, Answer::Tenant(Some(tenant)))
        };
        let add = (Action::AddKey(key.clone()), Answer::Done);
        let history = [(put(5), 1, 1), (add.clone(), 2, 3), (seen(5, &[&key]), 4, 4)];
        assert!(accepts(&history));
        assert!(!accepts(&[(put(5), 1, 1), (add.clone(), 2, 3), (seen(5, &[]), 4, 4)]), "a key was lost");
        assert!(!accepts(&[(put(5), 1, 1), (add.clone(), 2, 3), (add, 4, 5)]), "the same key twice");
        assert!(!accepts(&[(put(5), 1, 1), (put(6), 2, 3), (seen(5, &[]), 4, 4)]), "a stale read");
        assert!(accepts(&[(put(5), 1, 1), (put(6), 2, 0), (seen(5, &[]), 4, 4), (seen(6, &[]), 5, 5)]));
        let gone = (Action::Read, Answer::Tenant(None));
        assert!(!accepts(&[(put(5), 1, 1), (gone.clone(), 4, 4)]), "a tenant was lost");
        assert!(accepts(&[(put(5), 1, 1), ((Action::Remove, Answer::Done), 2, 3), (gone, 4, 4)]));
    }
}
