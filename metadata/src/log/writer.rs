//! The one thread that writes: it takes everything that waits, writes it as one batch, syncs once, and only then tells
//! whoever waited. Votes go through it too, so that votes and entries reach the disk in the order in which openraft
//! asked for them.
//!
//! After a failed write or sync nothing is written any more: what the device holds then is unknown, and a later sync
//! that succeeds would prove nothing about the earlier one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use openraft::storage::LogFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::contents::{Contents, Spot};
use super::record;
use super::segment::{self, Segment};
use super::vote;
use crate::metrics::Metrics;
use crate::raft::{Entry, LogId, Types, Vote};
use crate::volume::Volume;

/// Bytes that one batch may have before it is written, however much waits: a sync of 8 MiB takes about 10 ms, and
/// whoever came first should not wait longer for those behind.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// What the thread is asked to make durable.
pub(crate) enum Request {
    Append {
        entries: Vec<Entry>,
        done: LogFlushed<Types>,
    },
    Truncate {
        since: LogId,
        done: Done,
    },
    Purge {
        upto: LogId,
        done: Done,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    /// Entries up to here are committed: a hint for the next start, written with whatever comes next.
    Committed {
        upto: LogId,
    },
    /// Nothing comes next for now: write the hint.
    Settle,
}

/// Told once it is durable, or why it is not.
pub(crate) type Done = oneshot::Sender<io::Result<()>>;

enum Waiter {
    Append(LogFlushed<Types>),
    Other(Done),
}

pub(crate) struct Writer {
    pub(crate) volume: Arc<dyn Volume>,
    pub(crate) contents: Arc<Mutex<Contents>>,
    /// Oldest first; the last one is written to.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) next_batch: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) metrics: Metrics,
    /// Entries up to here are committed, and the log says so up to the other.
    pub(crate) committed: Option<LogId>,
    pub(crate) told_committed: Option<LogId>,
    /// Bytes of all segments, for whoever asks.
    pub(crate) disk_bytes: Arc<AtomicU64>,
    pub(crate) batch: Batch,
    /// Why nothing can be written any more.
    pub(crate) failed: Option<String>,
}

/// Records that are encoded and not yet written.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Offset of the record that came last.
    last: usize,
    /// Entries among them: id, offset, length.
    entries: Vec<(LogId, usize, usize)>,
}

impl Writer {
    /// Serves requests until every sender is gone.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.measure();
        while let Some(first) = requests.blocking_recv() {
            self.batch(first, &mut requests);
        }
    }

    /// As [`Writer::run`], in a simulation: as a task, which takes the time that a device would.
    #[cfg(feature = "testing")]
    pub(crate) async fn simulate(mut self, mut requests: mpsc::Receiver<Request>) {
        self.measure();
        while let Some(first) = requests.recv().await {
            crate::runtime::simulated::pause().await;
            self.batch(first, &mut requests);
        }
    }

    /// Makes the request and whatever waits behind it durable, and tells whoever asked.
    fn batch(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut group = vec![first];
        let mut bytes = size(&group[0]);
        while bytes < BATCH_BYTES_MAX
            && let Ok(next) = requests.try_recv()
        {
            bytes += size(&next);
            group.push(next);
        }
        let (waiters, result) = match &self.failed {
            Some(reason) => (group.into_iter().filter_map(waiter).collect(), Err(io::Error::other(reason.clone()))),
            None => self.serve(group),
        };
        if let Err(cause) = &result
            && self.failed.is_none()
        {
            error!(%cause, "the log cannot be written any more; this member stops taking part");
            self.failed = Some(format!("the log failed before: {cause}"));
        }
        for waiter in waiters {
            waiter.tell(&result);
        }
    }

    fn serve(&mut self, group: Vec<Request>) -> (Vec<Waiter>, io::Result<()>) {
        let mut waiters = Vec::with_capacity(group.len());
        let mut result = Ok(());
        let mut purged = None;
        for request in group {
            if result.is_ok() {
                result = self.add(&request);
            }
            if let Request::Purge { upto, .. } = &request {
                purged = Some(self.kept_after(*upto));
            }
            waiters.extend(waiter(request));
        }
        let result = result.and_then(|()| self.flush()).and_then(|()| match purged {
            Some(kept) => self.remove_segments(kept),
            None => Ok(()),
        });
        (waiters, result)
    }

    fn add(&mut self, request: &Request) -> io::Result<()> {
        match request {
            Request::Append { entries, .. } => {
                self.tell_committed()?;
                for entry in entries {
                    let bytes = self.make_room(record::entry_bytes(entry))?;
                    self.batch.last = record::put_entry(&mut self.batch.bytes, self.next_batch, entry);
                    self.batch.entries.push((entry.log_id, self.batch.last, bytes));
                }
                Ok(())
            }
            Request::Truncate { since, .. } => {
                self.make_room(record::record_bytes(0))?;
                self.batch.last = record::put_truncate(&mut self.batch.bytes, self.next_batch, *since);
                Ok(())
            }
            Request::Purge { upto, .. } => {
                self.make_room(record::record_bytes(record::PURGE_BYTES))?;
                let kept = self.kept_after(*upto);
                self.batch.last = record::put_purge(&mut self.batch.bytes, self.next_batch, *upto, kept);
                Ok(())
            }
            Request::Vote { vote, .. } => {
                self.flush()?;
                vote::save(&*self.volume, vote)
            }
            Request::Committed { upto } => {
                self.committed = self.committed.max(Some(*upto));
                Ok(())
            }
            Request::Settle => self.tell_committed(),
        }
    }

    /// Writes how far entries are committed, if the log does not say so yet. They are in it already: openraft hands an entry
    /// in before it counts it.
    fn tell_committed(&mut self) -> io::Result<()> {
        let Some(upto) = self.committed.filter(|upto| Some(*upto) > self.told_committed) else { return Ok(()) };
        self.make_room(record::record_bytes(0))?;
        self.batch.last = record::put_committed(&mut self.batch.bytes, self.next_batch, upto);
        self.told_committed = Some(upto);
        Ok(())
    }

    /// Sees to it that a record of `bytes` bytes fits behind the batch: a batch lies in one segment.
    fn make_room(&mut self, bytes: usize) -> io::Result<usize> {
        let room = self.segments.back().map_or(0, Segment::room);
        if ((self.batch.bytes.len() + bytes) as u64) <= room {
            return Ok(bytes);
        }
        self.flush()?;
        let before = self.segments.back_mut().expect("a log has a segment from its first start on");
        let next = Segment::create(&*self.volume, before.number + 1, self.next_batch, self.segment_bytes, bytes)?;
        before.continue_with(self.next_batch)?;
        self.segments.push_back(next);
        self.measure();
        Ok(bytes)
    }

    /// Number of the oldest segment that is needed once entries up to `upto` are gone: never beyond the one that is written
    /// to, which holds the record of that.
    fn kept_after(&self, upto: LogId) -> u64 {
        let goes = |segment: &&Segment| segment.index_max.is_none_or(|index| index <= upto.index);
        let last = self.segments.len() - 1;
        self.segments[self.segments.iter().take(last).take_while(goes).count()].number
    }

    /// Writes and syncs what is encoded.
    fn flush(&mut self) -> io::Result<()> {
        if self.batch.bytes.is_empty() {
            return Ok(());
        }
        let segment = self.segments.back_mut().expect("a log has a segment from its first start on");
        record::mark_last(&mut self.batch.bytes[self.batch.last..]);
        segment.file.write_at(segment.end, &self.batch.bytes)?;
        let began = Instant::now();
        segment.file.sync()?;
        self.metrics.log_sync_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.log_bytes.inc_by(self.batch.bytes.len() as u64);

        let mut contents = self.contents.lock();
        for (id, offset, bytes) in self.batch.entries.drain(..) {
            segment.covers(id.index);
            contents.place(id, Spot { file: segment.file.clone(), offset: segment.end + offset as u64, bytes });
        }
        drop(contents);
        segment.end += self.batch.bytes.len() as u64;
        self.batch.bytes.clear();
        self.next_batch += 1;
        Ok(())
    }

    /// Removes the segments before `kept`, oldest first.
    fn remove_segments(&mut self, kept: u64) -> io::Result<()> {
        while let Some(segment) = self.segments.pop_front_if(|segment| segment.number < kept) {
            let name = segment::name(segment.number);
            self.volume.remove(&name)?;
            // One by one: a crash must leave the later ones, never a hole.
            self.volume.sync()?;
            info!(file = %self.volume.locate(&name), "removed a purged segment");
            self.measure();
        }
        Ok(())
    }

    fn measure(&self) {
        self.metrics.log_segments.set(i64::try_from(self.segments.len()).unwrap_or(i64::MAX));
        let bytes = self.segments.iter().map(|segment| segment.len).sum();
        self.disk_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.log_disk_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Waiter {
    fn tell(self, result: &io::Result<()>) {
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match self {
            Self::Append(done) => done.log_io_completed(result),
            // Whoever asked may have been dropped with its runtime: nobody is left to tell.
            Self::Other(done) => drop(done.send(result)),
        }
    }
}

fn waiter(request: Request) -> Option<Waiter> {
    match request {
        Request::Append { done, .. } => Some(Waiter::Append(done)),
        Request::Truncate { done, .. } | Request::Purge { done, .. } | Request::Vote { done, .. } => {
            Some(Waiter::Other(done))
        }
        Request::Committed { .. } | Request::Settle => None,
    }
}

fn size(request: &Request) -> usize {
    match request {
        Request::Append { entries, .. } => entries.iter().map(record::entry_bytes).sum(),
        _ => record::record_bytes(0),
    }
}
