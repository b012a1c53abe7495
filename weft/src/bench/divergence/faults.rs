//! What becomes of a report on its way. Pure: chance is a seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_index::{Report, ReportAck, ReportForm};

/// Of the calls that carry reports.
pub(crate) const SHARE: f64 = 0.01;

/// What happens to reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Some are lost, and their numbers are not.
    Unnoticed,
    /// Some are acknowledged, and never arrive.
    Noticed,
    /// None is answered.
    Cut,
    /// The next one is told that its grant is over.
    Fence,
}

/// What to do with one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Carry,
    /// Carry these instead.
    Instead(Vec<Report>),
    /// Answer so.
    Answer(Vec<ReportAck>),
    Silence,
}

/// Decides, call by call.
pub(crate) struct Faults {
    fault: Fault,
    dice: ChaCha8Rng,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { fault: Fault::None, dice: ChaCha8Rng::seed_from_u64(4) }
    }

    pub(crate) fn set(&mut self, fault: Fault) {
        self.fault = fault;
    }

    pub(crate) fn fate(&mut self, reports: &[Report]) -> Fate {
        match self.fault {
            Fault::Cut => Fate::Silence,
            Fault::Fence => {
                self.fault = Fault::None;
                Fate::Answer(vec![ReportAck::Fenced; reports.len()])
            }
            Fault::Unnoticed if self.dice.random_bool(SHARE) => Fate::Instead(reports.iter().map(emptied).collect()),
            Fault::Noticed if self.dice.random_bool(SHARE) => {
                Fate::Answer(reports.iter().map(|report| ReportAck::Applied { number: report.number }).collect())
            }
            _ => Fate::Carry,
        }
    }
}

/// Its number, and nothing of what it says. One that replaces partitions must not replace them with nothing.
fn emptied(report: &Report) -> Report {
    let form = ReportForm { replaces: None, ..report.form };
    Report { form, changes: Vec::new(), ..report.clone() }
}

#[cfg(test)]
mod tests {
    use weft_index::{Change, PartitionId, Partitions};
    use weft_types::{Generation, HolderId, Incarnation, IndexKey};

    use super::*;

    fn report() -> Report {
        let first = PartitionId::new(0).unwrap();
        Report {
            holder: HolderId::new(1),
            generation: Generation::new(1),
            incarnation: Incarnation::new(1),
            number: 9,
            form: ReportForm { replaces: Partitions::new(first, first), continues: true },
            changes: vec![Change::Stored(IndexKey::from_bytes([0; 16]))],
        }
    }

    #[test]
    fn about_one_call_in_a_hundred_is_lost_in_its_way() {
        for fault in [Fault::Unnoticed, Fault::Noticed] {
            let mut faults = Faults::new();
            faults.set(fault);
            let lost: Vec<_> =
                (0..10_000).map(|_| faults.fate(&[report()])).filter(|fate| *fate != Fate::Carry).collect();
            assert!((50..200).contains(&lost.len()), "{fault:?}: {}", lost.len());
            match (fault, &lost[0]) {
                (Fault::Unnoticed, Fate::Instead(reports)) => {
                    let form = ReportForm { replaces: None, continues: true };
                    assert_eq!(reports[..], [Report { form, changes: vec![], ..report() }]);
                }
                (_, fate) => assert_eq!(*fate, Fate::Answer(vec![ReportAck::Applied { number: 9 }])),
            }
        }
    }

    #[test]
    fn a_fence_is_told_once_and_a_cut_lasts() {
        let mut faults = Faults::new();
        faults.set(Fault::Fence);
        assert_eq!(faults.fate(&[report()]), Fate::Answer(vec![ReportAck::Fenced]));
        assert_eq!(faults.fate(&[report()]), Fate::Carry);
        faults.set(Fault::Cut);
        assert_eq!([faults.fate(&[report()]), faults.fate(&[report()])], [Fate::Silence, Fate::Silence]);
    }
}
