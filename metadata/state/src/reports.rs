//! Reports: fenced, numbered, applied once.
//!
//! Most carry changes. One that *replaces* says what a holder has in some partitions, all of it; it is compared with what is
//! listed here, and followers hear of the difference as of any other change. One that *continues* may leave numbers out: its
//! holder has given up on what it sent under them, and compares what it holds with what is listed here instead.

use weft_index::{Change, DirectoryChange, Effect, Partitions, PrefixIndex, Report, ReportAck, ReportForm};
use weft_types::HolderId;

use crate::{Command, Directory, Outcome};

impl Directory {
    pub(crate) fn reports(&mut self, reports: Vec<Report>, changes: &mut Vec<DirectoryChange>) -> Outcome {
        let mut removable = Command::REPLACED_AWAY_MAX;
        Outcome::Reports(reports.into_iter().map(|report| self.report(report, &mut removable, changes)).collect())
    }

    /// `removable`: how many blocks may still be removed because a report replaces them.
    fn report(&mut self, mut report: Report, removable: &mut usize, changes: &mut Vec<DirectoryChange>) -> ReportAck {
        let (holder, number) = (report.holder, report.number);
        let granted_to = self.roster.holders.get(&holder).map(|grant| grant.incarnation);
        let Some(reported) = self.numbers.reported(holder, report.generation) else {
            return ReportAck::Fenced;
        };
        if granted_to != Some(report.incarnation) {
            return ReportAck::Fenced;
        }
        if number <= *reported {
            return ReportAck::Applied { number: *reported };
        }
        let expected = *reported + 1;
        if number != expected && !report.form.continues {
            return ReportAck::Gap { expected };
        }
        *reported = number;
        let replaces = std::mem::take(&mut report.form).replaces;
        if let Some(partitions) = replaces {
            self.leave_out(&mut report, partitions, removable);
        }
        report.changes = self.take(holder, &report.changes);
        self.digests.apply(holder, &report.changes);
        let took_effect = report.changes.len();
        publish(report, changes);
        match replaces {
            None => ReportAck::Applied { number },
            Some(_) => ReportAck::Replaced { number, blocks: u32::try_from(took_effect).unwrap_or(u32::MAX) },
        }
    }

    /// Makes changes of a report that replaces: removals of what is listed and not in it, in order of their keys, go first.
    fn leave_out(&self, report: &mut Report, partitions: Partitions, removable: &mut usize) {
        let mut kept: Vec<_> = report.changes.iter().map(Change::key).collect();
        kept.sort_unstable();
        let listed = partitions.iter().flat_map(|partition| self.index.held_in(partition, report.holder));
        let gone = listed.filter(|key| kept.binary_search(key).is_err());
        let mut changes: Vec<_> = gone.take(*removable).map(Change::Removed).collect();
        *removable -= changes.len();
        changes.append(&mut report.changes);
        report.changes = changes;
    }

    /// Applies changes, and returns those that took effect.
    fn take(&mut self, holder: HolderId, changes: &[Change]) -> Vec<Change> {
        let max = usize::try_from(self.limits.blocks).unwrap_or(usize::MAX).min(PrefixIndex::BLOCKS_MAX);
        let mut effective = Vec::with_capacity(changes.len());
        let refused = &mut self.refused_blocks;
        self.index.apply_all(holder, changes, max, |change, effect| match effect {
            Effect::None => {}
            Effect::Full => *refused += 1,
            Effect::Holder | Effect::Block => effective.push(change),
        });
        effective
    }
}

/// Tells followers, in reports no longer than a report may be.
fn publish(report: Report, changes: &mut Vec<DirectoryChange>) {
    if report.changes.len() <= Report::CHANGES_MAX {
        if !report.changes.is_empty() {
            changes.push(DirectoryChange::Blocks(report));
        }
        return;
    }
    let Report { holder, generation, incarnation, number, .. } = report;
    changes.extend(report.changes.chunks(Report::CHANGES_MAX).map(|some| {
        let form = ReportForm::default();
        DirectoryChange::Blocks(Report { holder, generation, incarnation, number, form, changes: some.to_vec() })
    }));
}
