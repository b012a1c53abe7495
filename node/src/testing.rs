//! What the simulation (`tests/sim`) runs of a node: the numbered reports of a holder, as the reporter keeps them.

use weft_index::{Change, Report, ReportAck};
use weft_types::{HolderGrant, IndexKey};

use crate::report::Outbox as Real;

/// Reports of one holder, from the change to its acknowledgement.
#[derive(Debug, Default)]
pub struct Outbox(Real);

impl Outbox {
    /// Whether the holder has to be granted anew before anything can be reported.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.is_stale()
    }

    /// What was reported cannot be continued: ask for a new grant.
    pub fn make_stale(&mut self) {
        self.0.make_stale();
    }

    /// Starts anew under a grant, with everything that is held.
    pub fn start(&mut self, grant: HolderGrant, held: impl IntoIterator<Item = IndexKey>) {
        self.0.start(grant, held);
    }

    /// Takes in changes, in order.
    pub fn note(&mut self, changes: impl IntoIterator<Item = Change>) {
        let _ = self.0.note(changes);
    }

    /// Reports that are not acknowledged, from the first, of together at most `max` by their weight.
    pub fn next_batch(&mut self, max: usize) -> Vec<Report> {
        self.0.next_batch(max).0
    }

    /// Takes in the answer to one report.
    pub fn answered(&mut self, ack: ReportAck) {
        let _ = self.0.answered(ack);
    }

    /// Reports that are not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}
