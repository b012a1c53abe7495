//! Folding reports: what arrives from all nodes while an entry is on its way becomes the next entry.
//!
//! ```text
//!  handlers ─ Submission ─► queue ─► fold ─► one Command::Reports ─► log ─► applied ─► acks, to each handler its own
//! ```
//! Reports of one holder stay in order: the queue is one, and entries are submitted one after another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_index::{Report, ReportAck};
use weft_metadata_state::{Command, Outcome};

use crate::group::{Group, ProposeError, Proposed};
use crate::metrics::Metrics;

/// Report calls that may wait. A node has one outstanding at a time, so this is the number of nodes at most.
const CALLS_MAX: usize = 4096;

/// Weight of reports that may wait, in bytes: 64 full entries, about a second's work of the group.
const BYTES_MAX: usize = 64 << 20;

/// Entries of reports that may be in flight. More only lengthens the wait: four keep log, network and apply busy at once.
const ENTRIES_IN_FLIGHT_MAX: usize = 4;

/// How long a fold waits for company while another is in flight. It costs a report that much at most, and saves a sync; once
/// nothing is in flight any more, waiting would save none.
const WINDOW: Duration = Duration::from_millis(2);

/// Where handlers hand reports in. Clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    queue: mpsc::Sender<Submission>,
    room: Arc<Semaphore>,
}

/// Why reports were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("reports as heavy as {bytes} bytes in one call: at most {max} are taken, send fewer at a time", max = Command::REPORTS_BYTES_MAX)]
    TooLong { bytes: usize },
    #[error("too many reports wait for the log: send them again later")]
    Overloaded,
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

type Acks = Result<Vec<ReportAck>, ProposeError>;

#[derive(Debug)]
struct Submission {
    reports: Vec<Report>,
    bytes: usize,
    answer: oneshot::Sender<Acks>,
    /// Its share of [`BYTES_MAX`], until it is answered.
    _room: OwnedSemaphorePermit,
}

/// Entries of reports in flight.
#[derive(Clone, Debug)]
struct InFlight {
    room: Arc<Semaphore>,
    /// Told when one of them has come through.
    ended: Arc<Notify>,
}

/// One of them.
#[derive(Debug)]
struct Flight {
    permit: Option<OwnedSemaphorePermit>,
    all: InFlight,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX)), ended: Arc::default() }
    }
}

impl InFlight {
    fn none(&self) -> bool {
        self.room.available_permits() == ENTRIES_IN_FLIGHT_MAX
    }

    /// Nothing is in flight but what is being folded, which has its room already.
    async fn landed(&self) {
        while self.room.available_permits() + 1 < ENTRIES_IN_FLIGHT_MAX {
            self.ended.notified().await;
        }
    }

    async fn room(&self) -> Flight {
        let permit = self.room.clone().acquire_owned().await.expect("nobody closes it");
        Flight { permit: Some(permit), all: self.clone() }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.all.ended.notify_one();
    }
}

/// What goes into one entry.
#[derive(Debug, Default)]
struct Fold {
    reports: Vec<Report>,
    bytes: usize,
    /// Whose they are, and how many.
    answers: Vec<(usize, oneshot::Sender<Acks>, OwnedSemaphorePermit)>,
}

impl Folder {
    /// Starts the folding task, which ends with `closing`, or when the last folder is dropped.
    pub(crate) fn start(group: Group, metrics: Metrics, tasks: &TaskTracker, closing: CancellationToken) -> Self {
        let (queue, submissions) = mpsc::channel(CALLS_MAX);
        let folding = fold(group, metrics, submissions, tasks.clone());
        tasks.spawn(closing.run_until_cancelled_owned(folding));
        Self { queue, room: Arc::new(Semaphore::new(BYTES_MAX)) }
    }

    /// Hands reports in; returns once they are applied, an ack for each.
    pub(crate) async fn report(&self, reports: Vec<Report>) -> Result<Vec<ReportAck>, ReportError> {
        let bytes = reports.iter().map(Report::weight).sum();
        if bytes > Command::REPORTS_BYTES_MAX {
            return Err(ReportError::TooLong { bytes });
        }
        let permits = u32::try_from(bytes).expect("bounded above");
        let room = self.room.clone().try_acquire_many_owned(permits).map_err(|_| ReportError::Overloaded)?;
        let (answer, told) = oneshot::channel();
        let submission = Submission { reports, bytes, answer, _room: room };
        self.queue.try_send(submission).map_err(|_| ReportError::Overloaded)?;
        let stopped = || ProposeError::Stopped("it is closing".to_owned());
        Ok(told.await.unwrap_or_else(|_| Err(stopped()))?)
    }
}

async fn fold(group: Group, metrics: Metrics, mut submissions: mpsc::Receiver<Submission>, tasks: TaskTracker) {
    let in_flight = InFlight::default();
    let mut next = submissions.recv().await;
    while let Some(first) = next.take() {
        let busy = !in_flight.none();
        let permit = in_flight.room().await;
        let mut fold = Fold::default();
        fold.add(first);
        let window = if busy { WINDOW } else { Duration::ZERO };
        next = fold.fill(&mut submissions, window, &in_flight).await;
        metrics.report_entries.inc();
        metrics.reports.inc_by(fold.reports.len() as u64);
        let (reports, answers) = (fold.reports, fold.answers);
        match group.submit(|at| Command::Reports { at, reports }).await {
            Ok(proposed) => drop(tasks.spawn(answer(proposed, answers, permit))),
            Err(error) => refuse(answers, &error),
        }
        if next.is_none() {
            next = submissions.recv().await;
        }
    }
}

impl Fold {
    fn fits(&self, submission: &Submission) -> bool {
        self.bytes + submission.bytes <= Command::REPORTS_BYTES_MAX
    }

    fn add(&mut self, submission: Submission) {
        self.answers.push((submission.reports.len(), submission.answer, submission._room));
        self.reports.extend(submission.reports);
        self.bytes += submission.bytes;
    }

    /// Takes what waits, and what comes within `window` while another is in flight. Returns the one that did not fit.
    async fn fill(
        &mut self,
        submissions: &mut mpsc::Receiver<Submission>,
        window: Duration,
        in_flight: &InFlight,
    ) -> Option<Submission> {
        let closes = tokio::time::sleep(window);
        tokio::pin!(closes);
        loop {
            let submission = match submissions.try_recv() {
                Ok(submission) => submission,
                Err(_) if window.is_zero() => return None,
                Err(_) => tokio::select! {
                    biased;
                    submission = submissions.recv() => submission?,
                    () = &mut closes => return None,
                    () = in_flight.landed() => return None,
                },
            };
            if !self.fits(&submission) {
                return Some(submission);
            }
            self.add(submission);
        }
    }
}

type Answers = Vec<(usize, oneshot::Sender<Acks>, OwnedSemaphorePermit)>;

async fn answer(proposed: Proposed, answers: Answers, _flight: Flight) {
    let acks = match proposed.outcome().await {
        Ok(Outcome::Reports(acks)) => acks,
        Ok(other) => unreachable!("a command of reports gave {other:?}"),
        Err(error) => return refuse(answers, &error),
    };
    let mut acks = acks.into_iter();
    for (count, answer, _room) in answers {
        // A caller that is gone sends the reports again, and they will be known.
        let _ = answer.send(Ok(acks.by_ref().take(count).collect()));
    }
}

fn refuse(answers: Answers, error: &ProposeError) {
    for (_, answer, _room) in answers {
        let _ = answer.send(Err(error.clone()));
    }
}
