//! How far a follower has come with an engine's events, and what became of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// What became of an engine's events, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) connected: watch::Sender<bool>,
    pub(crate) batches: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) left_out: AtomicU64,
    pub(crate) resident: AtomicU64,
    lag_micros: AtomicU64,
}

/// [`Progress`] at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// There is a connection.
    pub connected: bool,
    /// Batches applied, replayed ones included.
    pub batches: u64,
    /// Batches had again.
    pub replayed: u64,
    /// Batches lost for good; all that was known was forgotten then.
    pub lost: u64,
    /// Messages that were no batch.
    pub malformed: u64,
    /// How often the engine was gone, or counted from 0 again.
    pub restarts: u64,
    /// Engine blocks that were not understood, for whatever reason.
    pub left_out: u64,
    /// Weft blocks held now.
    pub resident: u64,
    /// How old the batch that was applied last was then, by the clocks of engine and follower.
    pub lag: Duration,
}

impl Progress {
    /// As it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            connected: *self.connected.borrow(),
            batches: count(&self.batches),
            replayed: count(&self.replayed),
            lost: count(&self.lost),
            malformed: count(&self.malformed),
            restarts: count(&self.restarts),
            left_out: count(&self.left_out),
            resident: count(&self.resident),
            lag: Duration::from_micros(count(&self.lag_micros)),
        }
    }

    /// Whether there is a connection, as it changes. While there is none, nothing is held.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    pub(crate) fn tell_lag(&self, published: f64, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // No time at all, or one that is still to come: clocks differ.
        let lag = Duration::try_from_secs_f64(now.as_secs_f64() - published).unwrap_or_default();
        self.lag_micros.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_the_future_has_no_lag() {
        let (progress, now) = (Progress::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        for (published, lag) in [(98.5, 1_500), (101.0, 0), (f64::NAN, 0), (f64::NEG_INFINITY, 0)] {
            progress.tell_lag(published, now);
            assert_eq!(progress.snapshot().lag, Duration::from_millis(lag), "published at {published}");
        }
    }
}
