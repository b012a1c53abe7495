//! Numbered reports of one holder, from the change to its acknowledgement. A value: no clock, no socket.

use std::collections::VecDeque;

use weft_index::{Change, PartitionId, Partitions, Report, ReportAck, ReportForm};
use weft_types::{HolderGrant, IndexKey};

/// Changes in one report: 4,096, some 66 KB. Larger ones would not be cheaper, and hold up what comes behind them.
pub(super) const CHANGES_PER_REPORT: usize = 4096;

/// Reports that may wait to be sent or acknowledged: 256, a million changes, 17 MB. During a longer outage they are given up,
/// and what is held is compared with what is listed instead.
const REPORTS_MAX: usize = 256;

/// Repairs that brought nothing double the number of turns in which a difference is left alone, up to this many times: with
/// the default of a turn a minute, to about an hour.
const FUTILE_MAX: u32 = 6;

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
    repair: Repair,
}

/// Where the holder is with comparing.
#[derive(Debug, Default)]
struct Repair {
    /// A comparison is wanted, once everything is acknowledged.
    wanted: bool,
    /// Partitions were replaced, and this many blocks put right by it so far.
    repaired: Option<u64>,
    /// Repairs, one after the other, that put nothing right.
    futile: u32,
    /// Turns in which a difference is left alone.
    skip: u32,
    found: Found,
}

/// What the last comparison found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    pub(super) partitions: u64,
    /// At least.
    pub(super) blocks: u64,
}

/// What an answer meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answered {
    /// Reports that it acknowledges.
    pub(super) acknowledged: usize,
    /// Blocks that were put right.
    pub(super) repaired: u64,
    /// A number is missing there and here: a resync begins.
    pub(super) gap: bool,
}

impl Outbox {
    /// Whether the holder has to be granted anew before anything can be reported.
    pub(crate) fn is_stale(&self) -> bool {
        self.grant.is_none()
    }

    /// What was granted is over: ask for a new grant.
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

    /// Takes in changes, in order. `true` if that was too much, and a resync begins.
    pub(crate) fn note(&mut self, changes: impl IntoIterator<Item = Change>) -> bool {
        self.make_reports(changes);
        let overflowed = self.reports.len() > self.max;
        if overflowed {
            self.break_off();
        }
        overflowed
    }

    /// What was to be reported is lost. Numbers go on with a report that says so, behind which nothing older is taken; once it
    /// is acknowledged, what is held is compared.
    pub(crate) fn break_off(&mut self) {
        if self.is_stale() {
            return;
        }
        self.reports.clear();
        self.push(ReportForm { replaces: None, continues: true }, Vec::new());
        self.max = REPORTS_MAX;
        self.repair = Repair { wanted: true, ..Repair::default() };
    }

    /// It is this holder's turn to be compared.
    pub(crate) fn ask_comparison(&mut self) {
        self.repair.wanted = true;
    }

    /// Under which grant and up to which number everything is acknowledged, if a comparison is wanted and possible now.
    pub(super) fn reported(&self) -> Option<(HolderGrant, u64)> {
        let possible = self.repair.wanted && self.reports.is_empty();
        self.grant.clone().filter(|_| possible).map(|grant| (grant, self.last))
    }

    /// Nothing differs.
    pub(super) fn found_same(&mut self) {
        self.repair = Repair::default();
    }

    /// So much differs. `true` if it is to be repaired now.
    pub(super) fn found_different(&mut self, partitions: u64, blocks: u64) -> bool {
        let repair = &mut self.repair;
        repair.found = Found { partitions, blocks };
        if repair.repaired.take() == Some(0) {
            // Nothing can be put right, most likely because the directory is full: not again at once.
            repair.futile = (repair.futile + 1).min(FUTILE_MAX);
            repair.skip = (1 << repair.futile) - 1;
            repair.wanted = false;
        } else if repair.skip > 0 {
            repair.skip -= 1;
            repair.wanted = false;
        }
        repair.wanted
    }

    /// Replaces partitions (ascending) by what is held there, and asks for a comparison afterwards.
    pub(super) fn replace(&mut self, partitions: &[PartitionId], mut keys: Vec<IndexKey>) {
        keys.sort_unstable();
        let mut keys = keys.into_iter().peekable();
        let mut partitions = partitions.iter().copied().peekable();
        while let Some(first) = partitions.next() {
            let (mut last, mut changes) = (first, Vec::new());
            loop {
                while let Some(key) = keys.next_if(|key| PartitionId::of(key) <= last) {
                    changes.push(Change::Stored(key));
                }
                let full = changes.len() >= CHANGES_PER_REPORT / 2
                    || usize::from(last.get() - first.get()) + 1 == Report::REPLACED_MAX;
                match partitions.next_if(|next| !full && next.get() == last.get() + 1) {
                    Some(next) => last = next,
                    None => break,
                }
            }
            // More than one report takes follows as changes.
            let rest = changes.split_off(changes.len().min(CHANGES_PER_REPORT));
            self.push(ReportForm { replaces: Partitions::new(first, last), continues: false }, changes);
            self.make_reports(rest);
        }
        self.max = self.reports.len() + REPORTS_MAX;
        self.repair.repaired = Some(0);
    }

    /// What the last comparison found.
    pub(crate) fn found(&self) -> Found {
        self.repair.found
    }

    /// Reports that are not acknowledged, from the first, of together at most `max` by their weight, and how many of them were
    /// sent before.
    pub(crate) fn next_batch(&mut self, max: usize) -> (Vec<Report>, usize) {
        let mut weight = 0;
        let fits = |report: &&Report| {
            weight += report.weight();
            weight <= max
        };
        let batch: Vec<_> = self.reports.iter().take_while(fits).cloned().collect();
        let again = batch.iter().filter(|report| report.number <= self.sent).count();
        self.sent = batch.last().map_or(self.sent, |report| self.sent.max(report.number));
        (batch, again)
    }

    /// Takes in the answer to one report.
    pub(crate) fn answered(&mut self, ack: ReportAck) -> Answered {
        let before = self.reports.len();
        let mut answered = Answered::default();
        match ack {
            ReportAck::Applied { number } | ReportAck::Replaced { number, .. } => {
                while self.reports.front().is_some_and(|report| report.number <= number) {
                    self.reports.pop_front();
                }
                answered.acknowledged = before - self.reports.len();
                if let ReportAck::Replaced { blocks, .. } = ack {
                    answered.repaired = u64::from(blocks);
                    self.repair.repaired = self.repair.repaired.map(|repaired| repaired + u64::from(blocks));
                }
            }
            // Sent again from there, if it is still here. Else it never can be: numbers go on with what is here, behind which
            // nothing older is taken, and once all is acknowledged, what is held is compared.
            ReportAck::Gap { expected } => {
                let continued = self.reports.front().is_some_and(|report| report.form.continues);
                if !continued && self.reports.front().is_none_or(|report| report.number > expected) {
                    match self.reports.front_mut() {
                        Some(front) => front.form.continues = true,
                        None => self.push(ReportForm { replaces: None, continues: true }, Vec::new()),
                    }
                    self.repair = Repair { wanted: true, ..Repair::default() };
                    answered.gap = true;
                }
            }
            ReportAck::Fenced => self.make_stale(),
        }
        answered
    }

    /// Reports that are not acknowledged.
    pub(crate) fn waiting(&self) -> usize {
        self.reports.len()
    }

    fn make_reports(&mut self, changes: impl IntoIterator<Item = Change>) {
        if self.is_stale() {
            return;
        }
        let mut changes = changes.into_iter().peekable();
        let grows = |last: &&mut Report| last.number > self.sent && last.form.replaces.is_none();
        if let Some(last) = self.reports.back_mut().filter(grows) {
            let room = CHANGES_PER_REPORT.saturating_sub(last.changes.len());
            last.changes.extend(changes.by_ref().take(room));
        }
        while changes.peek().is_some() {
            let some = changes.by_ref().take(CHANGES_PER_REPORT).collect();
            self.push(ReportForm::default(), some);
        }
    }

    fn push(&mut self, form: ReportForm, changes: Vec<Change>) {
        let Some(HolderGrant { holder, generation, incarnation, .. }) = self.grant else { return };
        self.last += 1;
        self.reports.push_back(Report { holder, generation, incarnation, number: self.last, form, changes });
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
        let (reports, again) = outbox.next_batch(usize::MAX);
        let sizes: Vec<_> = reports.iter().map(|report| report.changes.len()).collect();
        assert_eq!(sizes, [CHANGES_PER_REPORT, 2], "a report that was not sent yet grows");
        assert_eq!((reports[1].number, reports[1].generation, again), (2, Generation::new(1), 0));
        outbox.note([Change::Removed(key(1))]);
        assert_eq!(outbox.answered(ReportAck::Applied { number: 1 }).acknowledged, 1);
        let (reports, again) = outbox.next_batch(usize::MAX);
        assert_eq!((reports[0].number, reports[1].number, again), (2, 3, 1), "2 was sent before");
        assert_eq!(outbox.answered(ReportAck::Applied { number: 3 }).acknowledged, 2);
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
    fn what_is_fenced_starts_anew_under_a_new_grant() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), [key(1)]);
        numbers(&mut outbox);
        outbox.answered(ReportAck::Fenced);
        assert!(outbox.is_stale() && numbers(&mut outbox).is_empty());
        outbox.break_off();
        assert!(numbers(&mut outbox).is_empty(), "nothing can be said without a grant");
        outbox.start(grant(2), [key(7)]);
        let (reports, again) = outbox.next_batch(usize::MAX);
        assert_eq!((reports[0].number, reports[0].generation, again), (1, Generation::new(2), 0));
    }

    #[test]
    fn what_cannot_be_sent_again_is_left_out_and_compared_once_all_else_is_acknowledged() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), []);
        for number in 0..3 {
            outbox.note([Change::Stored(key(number))]);
            numbers(&mut outbox);
        }
        outbox.answered(ReportAck::Applied { number: 1 });
        assert_eq!(outbox.reported(), None);
        assert!(outbox.answered(ReportAck::Gap { expected: 1 }).gap, "1 is acknowledged and missing");
        assert!(!outbox.answered(ReportAck::Gap { expected: 1 }).gap, "the same, said of the next report");
        outbox.note([Change::Removed(key(0))]);
        let (reports, _) = outbox.next_batch(usize::MAX);
        let told: Vec<_> = reports.iter().map(|report| (report.number, report.form.continues)).collect();
        assert_eq!(told, [(2, true), (3, false), (4, false)], "what is still here goes on behind the gap");
        assert_eq!(outbox.reported(), None, "not acknowledged yet");
        outbox.answered(ReportAck::Applied { number: 4 });
        assert_eq!(outbox.reported(), Some((grant(1), 4)));
        outbox.found_same();
        assert_eq!(outbox.reported(), None, "compared");
    }

    #[test]
    fn an_outage_does_not_fill_memory() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), (0..CHANGES_PER_REPORT * REPORTS_MAX * 2).map(key));
        assert_eq!(outbox.waiting(), 2 * REPORTS_MAX, "what is held is reported, however much it is");
        for _ in 0..REPORTS_MAX {
            assert!(!outbox.note((0..CHANGES_PER_REPORT).map(|number| Change::Removed(key(number)))));
        }
        assert!(outbox.note([Change::Stored(key(0))]));
        assert_eq!(outbox.waiting(), 1, "given up; the one that says so");
        assert!(!outbox.is_stale(), "the grant stands");
    }

    /// Block `number` of a partition.
    fn in_partition(partition: u16, number: u32) -> IndexKey {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&(partition << 4).to_be_bytes());
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        IndexKey::from_bytes(bytes)
    }

    #[test]
    fn neighbouring_partitions_are_replaced_together_and_large_ones_go_on_as_changes() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), []);
        outbox.ask_comparison();
        let partitions: Vec<_> = [3, 4, 5, 9, 20].map(|number| PartitionId::new(number).unwrap()).to_vec();
        let large = (0..CHANGES_PER_REPORT as u32 + 5).map(|number| in_partition(20, number));
        let keys = [in_partition(5, 1), in_partition(3, 2), in_partition(3, 1)].into_iter().chain(large).collect();
        outbox.replace(&partitions, keys);
        outbox.note([Change::Removed(in_partition(3, 1))]);
        let (reports, _) = outbox.next_batch(usize::MAX);
        let shape = |report: &Report| {
            let run = report.form.replaces.map(|run| (run.first().get(), run.last().get()));
            (run, report.changes.len())
        };
        let shapes: Vec<_> = reports.iter().map(shape).collect();
        let large = CHANGES_PER_REPORT;
        assert_eq!(shapes, [(Some((3, 5)), 3), (Some((9, 9)), 0), (Some((20, 20)), large), (None, 6)]);
        let all: Vec<_> = (0..300).map(|number| PartitionId::new(number).unwrap()).collect();
        let mut outbox = Outbox::default();
        outbox.start(grant(1), []);
        outbox.replace(&all, Vec::new());
        assert_eq!(outbox.waiting(), 3, "of 128 partitions at most");
    }

    #[test]
    fn a_repair_that_brings_nothing_is_not_tried_at_every_turn() {
        let mut outbox = Outbox::default();
        outbox.start(grant(1), []);
        let partition = [PartitionId::new(3).unwrap()];
        let mut repairs = Vec::new();
        for _turn in 0..8 {
            outbox.ask_comparison();
            let mut tries = 0;
            while outbox.reported().is_some() && outbox.found_different(1, 1) {
                tries += 1;
                outbox.replace(&partition, vec![in_partition(3, 1)]);
                let last = outbox.next_batch(usize::MAX).0.last().unwrap().number;
                outbox.answered(ReportAck::Replaced { number: last, blocks: 0 });
            }
            repairs.push(tries);
        }
        assert_eq!(repairs, [1, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(outbox.found(), Found { partitions: 1, blocks: 1 }, "and still told");
    }
}
