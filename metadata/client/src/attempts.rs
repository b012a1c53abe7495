//! How long and how often a call is tried: attempts within a deadline, with a growing, jittered pause between them.

use std::time::Duration;

use tokio::time::Instant;

/// Longest single attempt: a member that died without a word must not eat the deadline. Commits take a few milliseconds, a
/// busy disk's 200; an attempt that was cut short is repeated without harm.
const ATTEMPT_MAX: Duration = Duration::from_millis(500);

/// Pause before the second attempt.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Longest pause: an election is over within two seconds, so that waiting longer gains nothing.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A jittered pause that doubles from [`PAUSE_MIN`] to [`PAUSE_MAX`].
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// The next pause: between half and all of the step, so that clients which failed together come back apart.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::random_range(0.5..=1.0));
        self.0 = (self.0 * 2).min(PAUSE_MAX);
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
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { end: Instant::now() + deadline, backoff: Backoff::new() }
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
