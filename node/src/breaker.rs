//! Whom not to ask for a while: what fails costs its callers one deadline, and then nothing.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses double up to this many times the first: 32 s with the default of 1 s. A peer that is back is found again soon
/// enough, and one that is gone for good leaves the roster anyway.
const DOUBLINGS_MAX: u32 = 5;

/// Closed while calls succeed; open for a pause after each failure, longer each time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether to try. After a pause one failure is enough to open it again.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| now >= until)
    }

    /// It did not work.
    pub(crate) fn failed(&mut self, now: Instant, pause: Duration) {
        self.open_until = Some(now + pause * (1 << self.failures.min(DOUBLINGS_MAX)));
        self.failures = self.failures.saturating_add(1);
    }

    /// It worked.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Nothing to remember.
    pub(crate) fn is_untouched(&self) -> bool {
        self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_and_end_with_a_success() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut breaker = Breaker::default();
        assert!(breaker.allows(start));
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            breaker.failed(start, second);
            assert!(!breaker.allows(start + second * pause - Duration::from_millis(1)));
            assert!(breaker.allows(start + second * pause));
        }
        breaker.succeeded();
        assert!(breaker.allows(start) && breaker.is_untouched());
    }
}
