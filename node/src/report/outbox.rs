//! Numbered reports of one holder, from the change to its acknowledgement. A value: no clock, no socket.

use std::collections::VecDeque;

use weft_index::{Change, Report, ReportAck, ReportForm};
use weft_types::{HolderGrant, IndexKey};

/// Changes in one report: 4,096, some 66 KB. Larger ones would not be cheaper, and hold up what comes behind them.
pub(super) const CHANGES_PER_REPORT: usize = 4096;

/// Reports that may wait to be sent or acknowledged: 256, a million changes, 17 MB. During a longer outage everything held
/// is reported anew instead, which is bounded by what is held.
const REPORTS_MAX: usize = 256;

/// Reports of one holder.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Under which reports are made; `None` until the holder is granted (again).
    grant: Option<HolderGrant>,
    /// Not acknowledged, in order of number.
    reports: VecDeque<Report>,
    /// Number of the last report that was made.
    last: u64,
    /// Number of the last report that was sent at least once: those after it can still grow.
    sent: u64,
    /// Reports that may wait under this grant.
    max: usize,
}

impl Outbox {
    /// Whether the holder has to be granted anew before anything can be reported.
    pub(crate) fn is_stale(&self) -> bool {
        self.grant.is_none()
    }

    /// What was reported cannot be continued: ask for a new grant.
    pub(crate) fn make_stale(&mut self) {
        *self = Self::default();
    }

    /// Starts anew under a grant, with everything that is held.
    pub(crate) fn start(&mut self, grant: HolderGrant, held: impl IntoIterator<Item = IndexKey>) {
        *self = Self { grant: Some(grant), ..Self::default() };
        // What is held is reported whole, however much it is.
        self.make_reports(held.into_iter().map(Change::Stored));
        self.max = self.reports.len() + REPORTS_MAX;
    }

    /// Takes in changes, in order.
    pub(crate) fn note(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.make_reports(changes);
        if self.reports.len() > self.max {
            self.make_stale();
        }
    }

    /// Up to `max` reports that are not acknowledged, from the first, and how many of them were sent before.
    pub(crate) fn next_batch(&mut self, max: usize) -> (Vec<Report>, usize) {
        let batch: Vec<_> = self.reports.iter().take(max).cloned().collect();
        let again = batch.iter().filter(|report| report.number <= self.sent).count();
        self.sent = batch.last().map_or(self.sent, |report| self.sent.max(report.number));
        (batch, again)
    }

    /// Takes in the answer to one report. Returns how many reports it acknowledges.
    pub(crate) fn answered(&mut self, ack: ReportAck) -> usize {
        let before = self.reports.len();
        match ack {
            ReportAck::Applied { number } | ReportAck::Replaced { number, .. } => {
                while self.reports.front().is_some_and(|report| report.number <= number) {
                    self.reports.pop_front();
                }
                before - self.reports.len()
            }
            // Sent again from there, if it is still here; else it never can be.
            ReportAck::Gap { expected } => {
                if self.reports.front().is_none_or(|report| report.number > expected) {
                    self.make_stale();
                }
                0
            }
            ReportAck::Fenced => {
                self.make_stale();
                0
            }
        }
    }

    /// Reports that are not acknowledged.
    pub(crate) fn waiting(&self) -> usize {
        self.reports.len()
    }

    fn make_reports(&mut self, changes: impl IntoIterator<Item = Change>) {
        let Some(grant) = &self.grant else { return };
        let mut changes = changes.into_iter().peekable();
        if let Some(last) = self.reports.back_mut().filter(|last| last.number > self.sent) {
            let room = CHANGES_PER_REPORT - last.changes.len();
            last.changes.extend(changes.by_ref().take(room));
        }
        while changes.peek().is_some() {
            self.last += 1;
            self.reports.push_back(Report {
                holder: grant.holder,
                generation: grant.generation,
                incarnation: grant.incarnation,
                number: self.last,
                form: ReportForm::default(),
                changes: changes.by_ref().take(CHANGES_PER_REPORT).collect(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_types::{Generation, HolderId, HolderKey, Incarnation, Tier};

    use super::*;

    fn grant(generation: u32) -> HolderGrant {
        HolderGrant {
            key: HolderKey::Node { node: "n".parse().unwrap(), tier: Tier::Host },
            holder: HolderId::new(3),
            generation: Generation::new(generation),
            incarnation: Incarnation::new(1),
        }
    }

    fn key(number: usize) -> IndexKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        IndexKey::from_bytes(bytes)
    }

    fn numbers(outbox: &mut Outbox) -> Vec<u64> {
        outbox.next_batch(usize::MAX).0.iter().map(|report| report.number).collect()
    }

    #[test]
    fn reports_are_numbered_and_kept_until_they_are_acknowledged() {
        let mut outbox = Outbox::default();
        assert!(outbox.is_stale());
        outbox.note([Change::Stored(key(0))]);
        assert_eq!(outbox.waiting(), 0, "nothing can be said without a grant");
        outbox.start(grant(1), (0..CHANGES_PER_REPORT + 1).map(key));
        outbox.note([Change::Removed(key(0))]);
        let (reports, again) = outbox.next_batch(2);
        let sizes: Vec<_> = reports.iter().map(|report| report.changes.len()).collect();
        assert_eq!(sizes, [CHANGES_PER_REPORT, 2], "a report that was not sent yet grows");
        assert_eq!((reports[1].number, reports[1].generation, again), (2, Generation::new(1), 0));
        outbox.note([Change::Removed(key(1))]);
        assert_eq!(outbox.answered(ReportAck::Applied { number: 1 }), 1);
        let (reports, again) = outbox.next_batch(9);
        assert_eq!((reports[0].number, reports[1].number, again), (2, 3, 1), "2 was sent before");
        assert_eq!(outbox.answered(ReportAck::Applied { number: 3 }), 2);
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_gap_is_filled_from_what_is_kept() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), []);
        for number in 0..3 {
            outbox.note([Change::Stored(key(number))]);
            numbers(&mut outbox);
        }
        assert_eq!(numbers(&mut outbox), [1, 2, 3]);
        outbox.answered(ReportAck::Applied { number: 1 });
        outbox.answered(ReportAck::Gap { expected: 2 });
        assert_eq!(numbers(&mut outbox), [2, 3]);
    }

    #[test]
    fn what_cannot_be_continued_starts_anew_under_a_new_grant() {
        for ack in [ReportAck::Gap { expected: 1 }, ReportAck::Fenced] {
            let mut outbox = Outbox::default();
            outbox.start(grant(1), []);
            for number in 0..2 {
                outbox.note([Change::Stored(key(number))]);
                numbers(&mut outbox);
            }
            outbox.answered(ReportAck::Applied { number: 1 });
            outbox.answered(ack);
            assert!(outbox.is_stale() && numbers(&mut outbox).is_empty());
            outbox.start(grant(2), [key(7)]);
            let (reports, again) = outbox.next_batch(1);
            assert_eq!((reports[0].number, reports[0].generation, again), (1, Generation::new(2), 0));
        }
    }

    #[test]
    fn an_outage_does_not_fill_memory() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), (0..CHANGES_PER_REPORT * REPORTS_MAX * 2).map(key));
        assert!(!outbox.is_stale(), "what is held is reported, however much it is");
        for _ in 0..REPORTS_MAX {
            outbox.note((0..CHANGES_PER_REPORT).map(|number| Change::Removed(key(number))));
            assert!(!outbox.is_stale());
        }
        outbox.note([Change::Stored(key(0))]);
        assert!(outbox.is_stale());
    }
}
