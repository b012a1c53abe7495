//! How long a daemon that does not answer is left alone: twice as long after each silence, and not a moment longer than until
//! it is heard. So one that hangs costs its callers one deadline, then next to nothing, and one that hiccups is back at once:
//! its late answer is what ends the pause.

use std::time::Duration;

use tokio::time::Instant;

/// After the first silence: long enough that callers do not notice, short enough that a hiccup does not cost many hits.
const PAUSE: Duration = Duration::from_millis(500);

/// Doublings at most: pauses of 32 s, in which one deadline is lost.
const DOUBLINGS_MAX: u32 = 6;

/// What is known of a daemon's silence. Time is an argument.
#[derive(Debug)]
pub(crate) struct Silence {
    heard: Instant,
    paused_until: Option<Instant>,
    silences: u32,
}

impl Silence {
    /// It was heard just now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, paused_until: None, silences: 0 }
    }

    /// Something came from the daemon.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A call made at `asked` was not answered in time. The pause that follows; `None` when the daemon is only busy (it was
    /// heard since), or when another call of the same silence was there first.
    pub(crate) fn unanswered(&mut self, asked: Instant, now: Instant) -> Option<Duration> {
        if self.heard > asked || self.paused_until.is_some_and(|until| until > asked) {
            return None;
        }
        let pause = PAUSE * (1 << self.silences.min(DOUBLINGS_MAX));
        self.silences = self.silences.saturating_add(1);
        self.paused_until = Some(now + pause);
        Some(pause)
    }

    /// It is left alone now.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(300);

    #[test]
    fn each_silence_in_a_row_is_left_alone_for_twice_as_long() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        let pauses = (0..9).map(|_| {
            let asked = now;
            now += DEADLINE;
            let pause = silence.unanswered(asked, now).unwrap();
            assert!(silence.is_paused(now) && !silence.is_paused(now + pause));
            now += pause;
            pause.as_millis()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 32_000, 32_000]);
    }

    #[test]
    fn calls_of_one_silence_count_once() {
        let asked = Instant::now();
        let mut silence = Silence::new(asked);
        assert_eq!(silence.unanswered(asked, asked + DEADLINE), Some(PAUSE));
        let beside = asked + DEADLINE / 2;
        assert_eq!(silence.unanswered(beside, beside + DEADLINE), None);
    }

    #[test]
    fn a_daemon_that_is_heard_is_asked_again_at_once_and_forgiven() {
        let asked = Instant::now();
        let mut silence = Silence::new(asked);
        assert_eq!(silence.unanswered(asked, asked + DEADLINE), Some(PAUSE));
        let woken = asked + DEADLINE * 2;
        silence.heard(woken);
        assert!(!silence.is_paused(woken));
        assert_eq!(silence.unanswered(woken, woken + DEADLINE), Some(PAUSE), "counted from the first again");
    }

    #[test]
    fn busy_is_not_silent() {
        let asked = Instant::now();
        let mut silence = Silence::new(asked);
        silence.heard(asked + DEADLINE / 2);
        assert_eq!(silence.unanswered(asked, asked + DEADLINE), None);
    }
}
