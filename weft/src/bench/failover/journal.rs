//! When writes were acknowledged again after a kill.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where clients note their acknowledgements. Pure but for the waiting.
#[derive(Debug)]
pub(crate) struct Journal {
    noted: Mutex<Noted>,
    all: Notify,
}

/// What a kill cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outage {
    /// Until the first client had an acknowledgement.
    pub(crate) first: Duration,
    /// Until the last one had.
    pub(crate) last: Duration,
}

#[derive(Debug)]
struct Noted {
    writes: u64,
    /// Before the signal, and once the process was gone.
    kill: Option<(Instant, Instant)>,
    /// Of each client, its first since.
    next: Vec<Option<Instant>>,
}

impl Journal {
    pub(crate) fn new(clients: usize) -> Self {
        let noted = Noted { writes: 0, kill: None, next: vec![None; clients] };
        Self { noted: Mutex::new(noted), all: Notify::new() }
    }

    /// The leader was sent the signal, and is gone.
    pub(crate) fn begin(&self, killed: Instant, gone: Instant) {
        let mut noted = self.noted.lock();
        noted.kill = Some((killed, gone));
        noted.next.fill(None);
    }

    /// A client's write was acknowledged. One begun before the leader was gone does not count: its answer may have been on
    /// its way already.
    pub(crate) fn acknowledged(&self, client: usize, begun: Instant, done: Instant) {
        let mut noted = self.noted.lock();
        noted.writes += 1;
        if noted.kill.is_some_and(|(_, gone)| begun >= gone) {
            noted.next[client].get_or_insert(done);
            if noted.outage().is_some() {
                self.all.notify_one();
            }
        }
    }

    /// Waits until every client has had one.
    pub(crate) async fn over(&self) -> Outage {
        loop {
            if let Some(outage) = self.outage() {
                return outage;
            }
            self.all.notified().await;
        }
    }

    /// Acknowledgements in all.
    pub(crate) fn writes(&self) -> u64 {
        self.noted.lock().writes
    }

    fn outage(&self) -> Option<Outage> {
        self.noted.lock().outage()
    }
}

impl Noted {
    fn outage(&self) -> Option<Outage> {
        let (killed, _) = self.kill?;
        let next = self.next.iter().copied().collect::<Option<Vec<_>>>()?;
        let since = |at: &Instant| *at - killed;
        Some(Outage { first: next.iter().map(since).min()?, last: next.iter().map(since).max()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_writes_that_were_begun_after_it() {
        let (journal, start) = (Journal::new(2), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        journal.acknowledged(0, at(0), at(1));
        assert_eq!(journal.outage(), None, "nobody was killed");
        journal.begin(at(10), at(12));
        journal.acknowledged(0, at(11), at(13));
        journal.acknowledged(1, at(13), at(900));
        assert_eq!(journal.outage(), None, "the first client's answer may have been on its way");
        journal.acknowledged(0, at(13), at(1000));
        journal.acknowledged(1, at(900), at(1100));
        let (first, last) = (Duration::from_millis(890), Duration::from_millis(990));
        assert_eq!(journal.outage(), Some(Outage { first, last }));
        assert_eq!(journal.writes(), 5);
        journal.begin(at(2000), at(2001));
        assert_eq!(journal.outage(), None, "the next one begins anew");
    }
}
