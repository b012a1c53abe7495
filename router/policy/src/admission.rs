//! Who is let through to the engines next, when more want to than may: bounds, weights, priorities, rates and deadlines.
//!
//! Requests that may not go at once wait, each with its tenant. Among tenants of one [`Priority`] the next is the one that has had
//! least for its weight (start-time fair queueing: a request's tag is where its tenant's last one ended, or where everybody is by
//! now, and it ends `cost / weight` later). A higher priority goes first; but every [`Queue::LONGEST_WAIT_EVERY`]th turn is that
//! of whoever has waited longest, whatever its priority: nobody starves, and nobody gains much by claiming to be important.
//!
//! Everything is known here and now: nothing is refused for what an engine said some time ago.

mod bucket;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::bucket::Bucket;

/// How much a request matters, among those that wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// May wait: batches.
    Low,
    /// What nobody says anything about.
    #[default]
    Normal,
    /// Somebody looks at it.
    High,
}

/// What a tenant is given.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// Against those of others, over 0.
    pub weight: f64,
    /// Prompt tokens a second, on average; 0: no bound.
    pub tokens_per_second: f64,
    /// Prompt tokens at once, after a pause.
    pub burst_tokens: f64,
}

/// What may be under way, and what may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Requests at engines; 0: no bound, and nobody waits.
    pub passing: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// Somebody who wants to go through.
#[derive(Clone, Debug)]
pub struct Arrival<K> {
    /// Whose it is.
    pub tenant: K,
    /// What that tenant is given.
    pub share: Share,
    /// Against other requests.
    pub priority: Priority,
    /// Tokens of its prompt, about.
    pub tokens: u32,
    /// It is of no use if it is let through after this.
    pub deadline: Option<Instant>,
}

/// A request that waits, or has been let through. Not reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place(u64);

/// What becomes of an arrival that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entered {
    /// It goes now.
    Passes(Place),
    /// [`Queue::next`] will name it.
    Waits(Place),
}

/// Why one is refused, and when to come again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Refused {
    /// The bound that it met.
    pub why: Why,
    /// When there may be room.
    pub retry_after: Duration,
}

/// A bound that was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// As many wait as may.
    Full,
    /// Its tenant has had what it is given.
    Rate,
    /// It would be let through too late, or was not let through in time.
    Deadline,
}

/// A decision about one that waited.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Next {
    /// It goes.
    Passes(Place),
    /// It is of no use any more.
    Refused(Place, Refused),
}

/// Who is under way and who waits. One a router.
#[derive(Debug)]
pub struct Queue<K> {
    bounds: Bounds,
    passing: usize,
    waiting: BTreeMap<Place, Waiting<K>>,
    tenants: BTreeMap<K, Tenant>,
    next_place: u64,
    /// Tag of what was let through last: where everybody is.
    virtual_time: f64,
    /// Turns since the last of whoever had waited longest.
    turns: u32,
    pace: Pace,
}

#[derive(Debug)]
struct Waiting<K> {
    tenant: K,
    priority: Priority,
    /// Where it begins in its tenant's virtual time.
    tag: f64,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Tenant {
    /// Where its last request ends.
    tag: f64,
    waiting: usize,
    bucket: Bucket,
}

impl<K: Ord + Clone> Queue<K> {
    /// Every so many turns one goes to whoever has waited longest. What waits last of n is let through within n times this.
    pub const LONGEST_WAIT_EVERY: u32 = 16;
    /// Tenants remembered beside those that wait.
    const TENANTS_MAX: usize = 4096;
    /// A request costs what this many tokens do, however short its prompt is: it takes a place.
    const TOKENS_MIN: u32 = 64;

    /// Nobody is here.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            passing: 0,
            waiting: BTreeMap::new(),
            tenants: BTreeMap::new(),
            next_place: 0,
            virtual_time: 0.0,
            turns: 0,
            pace: Pace::default(),
        }
    }

    /// Lets one through, has it wait, or refuses it.
    ///
    /// # Errors
    /// The bound that it meets.
    pub fn enter(&mut self, now: Instant, arrival: Arrival<K>) -> Result<Entered, Refused> {
        self.forget(now);
        let Arrival { tenant: name, share, priority, tokens, deadline } = arrival;
        let goes = self.bounds.passing == 0 || (self.waiting.is_empty() && self.passing < self.bounds.passing);
        if !goes {
            let ahead = self.waiting.values().filter(|waiting| waiting.priority >= priority).count();
            let wait = self.pace.of(ahead + 1);
            if self.waiting.len() >= self.bounds.waiting {
                return Err(Refused { why: Why::Full, retry_after: wait });
            }
            if deadline.is_some_and(|deadline| now + wait > deadline) {
                return Err(Refused { why: Why::Deadline, retry_after: wait });
            }
        }
        let here = self.virtual_time;
        let tenant = self.tenants.entry(name.clone()).or_insert_with(|| Tenant {
            tag: here,
            waiting: 0,
            bucket: Bucket::full(now, share),
        });
        if let Err(retry_after) = tenant.bucket.take(now, &share, tokens) {
            return Err(Refused { why: Why::Rate, retry_after });
        }
        let tag = tenant.tag.max(here);
        tenant.tag = tag + f64::from(tokens.max(Self::TOKENS_MIN)) / share.weight.max(f64::MIN_POSITIVE);
        self.next_place += 1;
        let place = Place(self.next_place);
        if goes {
            self.passing += 1;
            self.virtual_time = here.max(tag);
            return Ok(Entered::Passes(place));
        }
        tenant.waiting += 1;
        self.waiting.insert(place, Waiting { tenant: name, priority, tag, deadline });
        Ok(Entered::Waits(place))
    }

    /// The next of those that wait, while there is room. To be asked until it says nothing, after each [`Queue::left`].
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        if self.passing >= self.bounds.passing {
            return None;
        }
        let oldest = *self.waiting.keys().next()?;
        let place = match self.turns + 1 {
            Self::LONGEST_WAIT_EVERY.. => oldest,
            _ => self.fairest()?,
        };
        let waited = self.take(place)?;
        if waited.deadline.is_some_and(|deadline| now > deadline) {
            let retry_after = self.pace.of(self.waiting.len());
            return Some(Next::Refused(place, Refused { why: Why::Deadline, retry_after }));
        }
        self.turns = if place == oldest { 0 } else { self.turns + 1 };
        self.virtual_time = self.virtual_time.max(waited.tag);
        self.pace.passed(now);
        self.passing += 1;
        Some(Next::Passes(place))
    }

    /// One that was let through is done.
    pub fn left(&mut self) {
        self.passing = self.passing.saturating_sub(1);
        if self.waiting.is_empty() {
            self.pace.idle();
        }
    }

    /// One that waits does so no longer. False: it had been let through, or refused, already.
    pub fn gave_up(&mut self, place: Place) -> bool {
        self.take(place).is_some()
    }

    /// Requests that were let through and are not done.
    #[must_use]
    pub fn passing(&self) -> usize {
        self.passing
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When one that comes now and is to wait would be let through, about.
    #[must_use]
    pub fn expected_wait(&self) -> Duration {
        self.pace.of(self.waiting.len() + 1)
    }

    /// Keeps the tenants to a bound: first those go that lose nothing by it, then all that don't wait.
    fn forget(&mut self, now: Instant) {
        if self.tenants.len() >= Self::TENANTS_MAX {
            self.tenants.retain(|_, tenant| tenant.waiting > 0 || !tenant.bucket.is_full(now));
        }
        if self.tenants.len() >= Self::TENANTS_MAX {
            self.tenants.retain(|_, tenant| tenant.waiting > 0);
        }
    }

    fn fairest(&self) -> Option<Place> {
        let first = |a: &(&Place, &Waiting<K>), b: &(&Place, &Waiting<K>)| {
            b.1.priority.cmp(&a.1.priority).then(a.1.tag.total_cmp(&b.1.tag)).then(a.0.cmp(b.0))
        };
        self.waiting.iter().min_by(first).map(|(place, _)| *place)
    }

    fn take(&mut self, place: Place) -> Option<Waiting<K>> {
        let waited = self.waiting.remove(&place)?;
        if let Some(tenant) = self.tenants.get_mut(&waited.tenant) {
            tenant.waiting -= 1;
        }
        Some(waited)
    }
}

/// How long one turn takes, while somebody waits.
#[derive(Debug, Default)]
struct Pace {
    seconds: Option<f64>,
    last: Option<Instant>,
}

impl Pace {
    /// What a turn leaves of the ones before in their average.
    const KEPT: f64 = 0.9;

    fn passed(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let took = now.saturating_duration_since(last).as_secs_f64();
            self.seconds = Some(self.seconds.map_or(took, |seconds| seconds * Self::KEPT + took * (1.0 - Self::KEPT)));
        }
    }

    /// Nobody waits: what passes until somebody does is no turn.
    fn idle(&mut self) {
        self.last = None;
    }

    /// So many turns; none before any was seen.
    fn of(&self, turns: usize) -> Duration {
        Duration::try_from_secs_f64(self.seconds.unwrap_or(0.0) * turns as f64).unwrap_or(Duration::MAX)
    }
}
