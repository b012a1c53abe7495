//! How long and how often a call is tried: attempts within a deadline, with a growing, jittered pause between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Longest single attempt: a member that died without a word must not eat the deadline. Commits take a few milliseconds, a
/// busy disk's 200; an attempt that was cut short is repeated without harm.
const ATTEMPT_MAX: Duration = Duration::from_millis(500);

/// Pause before the second attempt.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Longest pause: an election is over within two seconds, so that waiting longer gains nothing.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Where pauses get their jitter from: a client has one, begun at random, so that clients which failed together come back
/// apart. Clone is cheap; clones draw from the same one.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(Arc<AtomicU64>);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Between a half and one, by a Weyl sequence: evenly spread, which is all that is asked of it.
    fn next(&self) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let drawn = self.0.fetch_add(GOLDEN, Ordering::Relaxed);
        0.5 + f64::from(u32::try_from(drawn >> 32).expect("32 bits are left")) / (2.0 * f64::from(u32::MAX))
    }
}

/// A jittered pause that doubles from [`PAUSE_MIN`] to [`PAUSE_MAX`].
#[derive(Debug)]
pub(crate) struct Backoff {
    step: Duration,
    jitter: Jitter,
}

impl Backoff {
    pub(crate) fn new(jitter: &Jitter) -> Self {
        Self { step: PAUSE_MIN, jitter: jitter.clone() }
    }

    /// The next pause: between half and all of the step.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.step.mul_f64(self.jitter.next());
        self.step = (self.step * 2).min(PAUSE_MAX);
        pause
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    end: Instant,
    backoff: Backoff,
}

impl Attempts {
    pub(crate) fn new(deadline: Duration, jitter: &Jitter) -> Self {
        Self { end: Instant::now() + deadline, backoff: Backoff::new(jitter) }
    }

    /// How long the next attempt may take; `None`: the deadline has passed. At most half of what is left, so that there is
    /// time for another member.
    pub(crate) fn next(&self) -> Option<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (left / 2).max(Duration::from_millis(1)).min(ATTEMPT_MAX))
    }

    /// Waits before the next one, but not past the deadline.
    pub(crate) async fn pause(&mut self) {
        let until = (Instant::now() + self.backoff.next()).min(self.end);
        tokio::time::sleep_until(until).await;
    }
}
