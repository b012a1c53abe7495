//! What the simulation (`tests/sim`) runs of a node: the numbered reports of a holder, and their comparison with what is listed,
//! as the reporter does both.

use std::time::Duration;

use tokio::time::Instant;
use weft_index::{Change, Report, ReportAck};
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_types::{HolderGrant, IndexKey};

use crate::metrics::Metrics;
use crate::report::{Compared as RealCompared, Held, Outbox as RealOutbox, Pace as RealPace, compare};

/// Reports of one holder, from the change to its acknowledgement.
#[derive(Debug, Default)]
pub struct Outbox(RealOutbox);

/// What a holder really holds, whatever was reported of it.
pub trait Truth: Send + Sync {
    /// What changed since this was last called; `None` when that was too much to keep.
    fn take_changes(&self) -> Option<Vec<Change>>;

    /// Gives everything that is held to `each`, and takes the changes that led there.
    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>>;
}

/// Compares what is held with what is listed.
#[derive(Clone, Debug)]
pub struct Comparer(Metrics);

/// What became of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// The list is right, or is left as it is for now.
    Done,
    /// There is something to send.
    Repairing,
    /// The leader has not applied everything yet: ask again in a while.
    Early,
}

/// The turns of a node's holders to be compared.
#[derive(Debug)]
pub struct Pace(RealPace);

struct Holds<'a>(&'a dyn Truth);

impl Held for Holds<'_> {
    fn take_changes(&self) -> Option<Vec<Change>> {
        self.0.take_changes()
    }

    fn cut(&self, each: &mut dyn FnMut(IndexKey)) -> Option<Vec<Change>> {
        self.0.cut(each)
    }
}

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

    /// Takes in what changed.
    pub fn collect(&mut self, truth: &dyn Truth) {
        match truth.take_changes() {
            Some(changes) => _ = self.0.note(changes),
            None => self.0.break_off(),
        }
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

    /// It is this holder's turn to be compared.
    pub fn ask_comparison(&mut self) {
        self.0.ask_comparison();
    }

    /// The last comparison found that the list is not right.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.0.found() != crate::report::Found::default()
    }
}

impl Comparer {
    /// With metrics that nobody reads.
    ///
    /// # Panics
    /// Never: a registry of its own takes every metric.
    #[must_use]
    pub fn new() -> Self {
        Self(Metrics::register(&prometheus::Registry::new()).expect("a new registry has no metric of any name"))
    }

    /// Compares one holder, if that is wanted and everything of it is acknowledged.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn compare(
        &self,
        metadata: &MetadataClient,
        outbox: &mut Outbox,
        truth: &dyn Truth,
        deadline: Duration,
    ) -> Result<Compared, MetadataError> {
        Ok(match compare(metadata, &mut outbox.0, &Holds(truth), deadline, &self.0).await? {
            RealCompared::Done => Compared::Done,
            RealCompared::Repairing => Compared::Repairing,
            RealCompared::Early => Compared::Early,
        })
    }
}

impl Default for Comparer {
    fn default() -> Self {
        Self::new()
    }
}

impl Pace {
    /// `dice`: between 0 and 1.
    #[must_use]
    pub fn new(every: Duration, dice: f64) -> Self {
        Self(RealPace::new(every, Instant::now(), dice))
    }

    /// When the next turn is; `None`: never.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    /// Takes the turn: which of so many holders it is.
    pub fn take(&mut self, holders: usize, dice: f64) -> usize {
        self.0.take(holders, Instant::now(), dice)
    }
}
