//! Reports: fenced, numbered, applied once.

use weft_index::{Change, DirectoryChange, Report, ReportAck};
use weft_types::HolderId;

use crate::{Directory, Outcome};

impl Directory {
    pub(crate) fn reports(&mut self, reports: Vec<Report>, changes: &mut Vec<DirectoryChange>) -> Outcome {
        Outcome::Reports(reports.into_iter().map(|report| self.report(report, changes)).collect())
    }

    fn report(&mut self, mut report: Report, changes: &mut Vec<DirectoryChange>) -> ReportAck {
        let holder = report.holder;
        let granted_to = self.roster.holders.get(&holder).map(|grant| grant.incarnation);
        let Some(reported) = self.numbers.reported(holder, report.generation) else {
            return ReportAck::Fenced;
        };
        if granted_to != Some(report.incarnation) {
            return ReportAck::Fenced;
        }
        if report.number <= *reported {
            return ReportAck::Applied { number: *reported };
        }
        let expected = *reported + 1;
        if report.number != expected {
            return ReportAck::Gap { expected };
        }
        *reported = expected;
        report.changes.retain(|change| self.take(holder, *change));
        if !report.changes.is_empty() {
            changes.push(DirectoryChange::Blocks(report));
        }
        ReportAck::Applied { number: expected }
    }

    /// `true` if it changed anything.
    fn take(&mut self, holder: HolderId, change: Change) -> bool {
        let full = self.index.len() as u64 >= self.limits.blocks;
        if full && matches!(change, Change::Stored(key) if !self.index.contains(&key)) {
            self.refused_blocks += 1;
            return false;
        }
        self.index.apply(holder, change)
    }
}
