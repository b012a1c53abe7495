//! The durable log of a member: openraft's `RaftLogStorage` over a segmented write-ahead log of our own.
//!
//! ```text
//!  openraft ── append, truncate, purge, vote ──► queue ──► writer thread ── one write + one sync a batch ──► segments
//!      ▲                                                        │
//!      └────────────── told once it is durable ◄────────────────┘
//!  openraft ── read ──► contents (memory) ── older than the tail ──► segments, off the runtime
//! ```
//! The bytes are drawn in [`record`], [`segment`] and [`vote`], and in `docs/log-format.md`; [`recovery`] says what a
//! crash may leave behind.
//!
//! # Invariants
//! - nothing written is ever overwritten: truncating and purging are records, so a crash at any point leaves a prefix of
//!   what was asked for;
//! - an entry is readable as soon as `append` returns, and acknowledged only once it is durable;
//! - the runtime is never blocked: writes happen on the writer's thread, reads from disk on the blocking pool.
//!
//! # Decided here
//! - how far entries are committed is a record of the log like any other, written with the next batch, or when nothing comes
//!   for a while: it costs no sync of its own while there is work. So a start knows, while it reads, which entries nothing
//!   later can take back, and has applied them by the time it has read them; the rest waits for a leader.

mod contents;
pub(crate) mod record;
mod recovery;
mod segment;
pub(crate) mod vote;
mod writer;

#[cfg(test)]
mod conformance_test;
#[cfg(test)]
mod crash_test;

use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use self::contents::{Contents, Found, Spot};
pub(crate) use self::recovery::Sink;
use self::segment::Segment;
use self::writer::{Request, Writer};
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::raft::{Entry, LogId, StorageError, Types, Vote};
use crate::runtime::blocking;
use crate::volume::Volume;

/// Bytes of entries that go to a follower in one message, unless a single entry is larger: what a follower takes, writes
/// and syncs well within one heartbeat interval, which is how long openraft waits for its answer.
pub(crate) const REPLICATION_BYTES_MAX: usize = 2 << 20;

/// Requests that may wait for the writer: openraft itself has one outstanding, so this is never reached.
const REQUESTS_MAX: usize = 64;

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSettings {
    /// Bytes set aside for a segment.
    pub(crate) segment_bytes: u64,
    /// Bytes of recent entries kept in memory, those not yet durable apart.
    pub(crate) tail_bytes_max: usize,
}

/// What the log is told of commits, so that it can be told when they stop.
#[derive(Debug, Default)]
struct Hint {
    committed: Option<LogId>,
    seen: Option<LogId>,
    settled: Option<LogId>,
}

/// Handle of the log; clones are the same log, and the writer's thread ends with the last of them.
#[derive(Clone)]
pub(crate) struct LogStore {
    contents: Arc<Mutex<Contents>>,
    vote: Arc<Mutex<Option<Vote>>>,
    /// As the log said at its start.
    committed_at_start: Option<LogId>,
    hint: Arc<Mutex<Hint>>,
    disk_bytes: Arc<AtomicU64>,
    requests: mpsc::Sender<Request>,
    /// Its other end is dropped when the writer's thread ends.
    ended: watch::Receiver<()>,
}

impl LogStore {
    /// Recovers the log from the volume and starts its writer. Blocks: call it off the runtime.
    #[cfg(test)]
    pub(crate) fn open(volume: Arc<dyn Volume>, settings: LogSettings, metrics: Metrics) -> Result<Self, StoreError> {
        Self::open_into(volume, settings, metrics, &mut |_| Ok(()))
    }

    /// Whoever led when it stopped leads no more, until it is elected again. openraft would let it go on in the same term:
    /// without what it had sent to others and not yet synced itself, it would put other entries under the same ids.
    pub(crate) fn lead_no_more(&self, me: u64) {
        let mut vote = self.vote.lock();
        let led = vote.filter(|vote| vote.committed && vote.leader_id.node_id == me);
        *vote = led.map(|vote| Vote::new(vote.leader_id.term, me)).or(*vote);
    }

    /// Recovers the log from the volume and starts its writer; entries that it knows to be committed go to the sink as they
    /// are read. Blocks: call it off the runtime.
    pub(crate) fn open_into(
        volume: Arc<dyn Volume>,
        settings: LogSettings,
        metrics: Metrics,
        sink: Sink<'_>,
    ) -> Result<Self, StoreError> {
        begin(&*volume, settings.segment_bytes)?;
        let vote = vote::load(&*volume)?.filter(|vote| *vote != Vote::default());
        let recovered = recovery::recover(&*volume, settings.tail_bytes_max, sink)?;
        info!(
            segments = recovered.segments.len(), entries = recovered.contents.entries(),
            last = ?recovered.contents.last(), committed = ?recovered.committed, ?vote, "log recovered",
        );
        let contents = Arc::new(Mutex::new(recovered.contents));
        let disk_bytes = Arc::default();
        let writer = Writer {
            disk_bytes: Arc::clone(&disk_bytes),
            volume: volume.clone(),
            contents: contents.clone(),
            segments: recovered.segments,
            next_batch: recovered.next_batch,
            committed: recovered.committed,
            told_committed: recovered.committed,
            segment_bytes: settings.segment_bytes,
            metrics,
            batch: writer::Batch::default(),
            failed: None,
        };
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let (running, ended) = watch::channel(());
        let store = Self {
            contents,
            vote: Arc::new(Mutex::new(vote)),
            committed_at_start: recovered.committed,
            hint: Arc::default(),
            disk_bytes,
            requests,
            ended,
        };
        #[cfg(feature = "testing")]
        if crate::runtime::simulated::is() {
            tokio::spawn(async move {
                writer.simulate(queue).await;
                drop(running);
            });
            return Ok(store);
        }
        std::thread::Builder::new()
            .name("weft-log".to_owned())
            .spawn(move || {
                writer.run(queue);
                drop(running);
            })
            .map_err(|source| StoreError::io("start the writer thread of", volume.locate(""), source))?;
        Ok(store)
    }

    /// It holds an entry, or once did.
    pub(crate) fn has_entries(&self) -> bool {
        self.contents.lock().last().is_some()
    }

    /// Index up to which entries are gone, since a snapshot covers them.
    pub(crate) fn purged_index(&self) -> Option<u64> {
        self.contents.lock().purged().map(|id| id.index)
    }

    /// Index up to which entries may go so that about `keep` bytes of those that a snapshot of index `covered` covers are left.
    pub(crate) fn purgeable(&self, covered: u64, keep: u64) -> Option<u64> {
        self.contents.lock().purgeable(covered, keep)
    }

    /// The vote that was saved last.
    pub(crate) fn vote(&self) -> Option<Vote> {
        *self.vote.lock()
    }

    /// Every entry behind `index`. Blocks.
    pub(crate) fn entries_after(&self, index: Option<u64>) -> io::Result<Vec<Entry>> {
        let found = self.contents.lock().find(index.map_or(0, |index| index + 1)..u64::MAX, usize::MAX);
        found.into_iter().map(load).collect()
    }

    /// Bytes that the log takes on disk, those set aside included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// To be called now and then: if nothing was committed since the last time, and the log does not say how far it is, it is
    /// told to.
    pub(crate) async fn settle(&self) {
        let due = {
            let mut hint = self.hint.lock();
            let quiet = hint.committed == hint.seen;
            hint.seen = hint.committed;
            let due = quiet && hint.settled != hint.committed;
            if due {
                hint.settled = hint.committed;
            }
            due
        };
        if due {
            // One that is gone has said why.
            let _ = self.requests.send(Request::Settle).await;
        }
    }

    /// Lets go of the log; resolves once the writer's thread has written what it was asked to and is gone, which is when
    /// every other handle is dropped too.
    pub(crate) async fn close(self) {
        let Self { requests, mut ended, .. } = self;
        drop(requests);
        // The thread sends nothing: it drops its end.
        let _ = ended.changed().await;
    }

    async fn ask(&self, request: impl FnOnce(writer::Done) -> Request) -> io::Result<()> {
        let (done, told) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| writer_gone())?;
        told.await.map_err(|_| writer_gone())?
    }

    async fn read(&self, range: std::ops::Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let found = self.contents.lock().find(range, bytes_max);
        if found.iter().all(|found| matches!(found, Found::Entry(_))) {
            return Ok(found.into_iter().filter_map(Found::into_entry).collect());
        }
        let read = blocking(move || found.into_iter().map(load).collect::<io::Result<Vec<_>>>()).await;
        let entries = read.map_err(io::Error::other).flatten();
        entries.map_err(|error| StorageIOError::read_logs(AnyError::new(&error)).into())
    }
}

/// Makes the vote and the first segment, in this order, at the first start; later, either of them gone is damage: this member
/// could vote twice in one term, or deny what it helped to commit.
fn begin(volume: &dyn Volume, segment_bytes: u64) -> Result<(), StoreError> {
    let vote = vote::load(volume)?;
    let numbers = segment::numbers(volume).map_err(|source| StoreError::io("list", volume.locate(""), source))?;
    match vote {
        None if numbers.is_empty() => {
            vote::save(volume, &Vote::default())
                .map_err(|source| StoreError::io("write", volume.locate(vote::NAME), source))?;
        }
        None => return Err(StoreError::Missing { file: volume.locate(vote::NAME) }),
        Some(vote) if numbers.is_empty() && vote != Vote::default() => {
            return Err(StoreError::Missing { file: volume.locate(&segment::name(1)) });
        }
        Some(_) if numbers.is_empty() => {}
        Some(_) => return Ok(()),
    }
    create_first(volume, segment_bytes)
}

/// Makes the first segment of a log.
pub(crate) fn create_first(volume: &dyn Volume, segment_bytes: u64) -> Result<(), StoreError> {
    let created = Segment::create(volume, 1, 1, segment_bytes, 0);
    created.map(drop).map_err(|source| StoreError::io("write", volume.locate(&segment::name(1)), source))
}

impl Found {
    fn into_entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::OnDisk(..) => None,
        }
    }
}

fn writer_gone() -> io::Error {
    io::Error::other("the log's writer thread is gone")
}

/// Reads an entry, from disk where it must be, checksum and all.
fn load(found: Found) -> io::Result<Entry> {
    let (id, Spot { file, offset, bytes }) = match found {
        Found::Entry(entry) => return Ok(entry),
        Found::OnDisk(id, spot) => (id, spot),
    };
    let mut record = vec![0; bytes];
    file.read_at(offset, &mut record)?;
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {id}: {reason}"));
    match record::parse(&record) {
        record::Parsed::Record { header, .. } if header.id == id => {
            record::entry(&header, &Bytes::from(record)).map_err(invalid)
        }
        other => Err(invalid(format!("found {other:?} at byte {offset} of {file:?}"))),
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start..end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        // A leader that was deposed may purge what its replication is still to read. What is left of the range would follow
        // on nothing: nothing is sent then, and the follower gets it from the new leader.
        let entries = self.read(start..end, REPLICATION_BYTES_MAX).await?;
        let complete = entries.first().is_none_or(|entry| entry.log_id.index == start);
        Ok(if complete { entries } else { Vec::new() })
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let contents = self.contents.lock();
        Ok(LogState { last_purged_log_id: contents.purged(), last_log_id: contents.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.ask(|done| Request::Vote { vote: *vote, done }).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        *self.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(*self.vote.lock())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(upto) = committed else { return Ok(()) };
        self.hint.lock().committed = Some(upto);
        let sent = self.requests.send(Request::Committed { upto }).await;
        sent.map_err(|_| StorageIOError::write(AnyError::new(&writer_gone())).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.hint.lock().committed.or(self.committed_at_start))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut contents = self.contents.lock();
            for entry in &entries {
                contents.push(entry.clone());
            }
        }
        let sent = self.requests.send(Request::Append { entries, done: callback }).await;
        sent.map_err(|_| StorageIOError::write_logs(AnyError::new(&writer_gone())).into())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        self.contents.lock().truncate(since.index);
        let written = self.ask(|done| Request::Truncate { since, done }).await;
        written.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.contents.lock().purge(upto);
        let written = self.ask(|done| Request::Purge { upto, done }).await;
        written.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("last", &self.contents.lock().last()).finish_non_exhaustive()
    }
}
