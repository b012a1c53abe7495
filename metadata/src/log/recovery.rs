//! Reading the log back at start: every segment is scanned, checked and replayed.
//!
//! A batch is one write followed by one sync, and the next batch is written only after it. So the only place where a
//! crash can leave anything but whole records is the last batch of the last segment, and there, bytes that the device
//! left out read as zero. Exactly that is cut off, with a line in the log; it was never acknowledged. Anything else is
//! damage: the member refuses to start, since a log that lost an acknowledged entry could undo a commit.

use std::collections::VecDeque;

use bytes::Bytes;
use tracing::warn;

use super::contents::{Contents, Spot};
use super::record::{self, Header, Kind, Parsed};
use super::segment::{self, Segment};
use crate::error::StoreError;
use crate::raft::{Entry, LogId};
use crate::volume::{SECTOR_BYTES, Volume};

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) contents: Contents,
    /// Last entry that the log itself says is committed.
    pub(crate) committed: Option<LogId>,
    /// Oldest first; empty for a new log.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) next_batch: u64,
}

/// Where committed entries go as they are read, in order.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(Entry) -> Result<(), String> + Send);

/// Reads every segment of the volume, once. Entries that the log knows to be committed go to the sink on the way.
pub(crate) fn recover(volume: &dyn Volume, tail_bytes_max: usize, sink: Sink<'_>) -> Result<Recovered, StoreError> {
    let numbers = segment::numbers(volume).map_err(|source| StoreError::io("list", volume.locate(""), source))?;
    let begins_purged = numbers.first().is_some_and(|first| *first > 1);
    let mut replay = Replay {
        volume,
        contents: Contents::new(tail_bytes_max),
        next_batch: 1,
        begins_purged,
        committed: None,
        undecided: VecDeque::new(),
        sink,
    };
    let mut segments: VecDeque<Segment> = VecDeque::with_capacity(numbers.len());
    for (at, number) in numbers.iter().copied().enumerate() {
        if let Some(before) = segments.back()
            && before.number + 1 != number
        {
            return Err(StoreError::Missing { file: volume.locate(&segment::name(before.number + 1)) });
        }
        segments.push_back(replay.segment(number, at + 1 == numbers.len())?);
    }
    replay.check_start(&segments)?;
    Ok(Recovered { contents: replay.contents, committed: replay.committed, segments, next_batch: replay.next_batch })
}

struct Replay<'a> {
    volume: &'a dyn Volume,
    contents: Contents,
    /// Batch that the next record must belong to.
    next_batch: u64,
    /// The first segments are gone.
    begins_purged: bool,
    committed: Option<LogId>,
    /// Entries that a later record may take back, or say to be committed.
    undecided: VecDeque<Entry>,
    sink: Sink<'a>,
}

/// Where a scan stopped.
struct Stop {
    offset: usize,
    reason: &'static str,
    /// `None`: nothing is written there.
    reach: Option<usize>,
}

impl Replay<'_> {
    fn segment(&mut self, number: u64, is_last: bool) -> Result<Segment, StoreError> {
        let name = segment::name(number);
        let io = |operation, source| StoreError::io(operation, self.volume.locate(&name), source);
        let file = self.volume.open(&name).map_err(|source| io("open", source))?;
        let len = file.len().map_err(|source| io("read", source))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io("read", std::io::ErrorKind::FileTooLarge.into()))?];
        file.read_at(0, &mut bytes).map_err(|source| io("read", source))?;
        let bytes = Bytes::from(bytes);
        let first_batch = segment::check_header(&bytes, number).map_err(|reason| self.damaged(number, 0, reason))?;
        if number == 1 || self.next_batch > 1 {
            if first_batch != self.next_batch {
                let reason = format!("its first batch is {first_batch}, expected {}", self.next_batch);
                return Err(self.damaged(number, 0, reason));
            }
        } else {
            self.next_batch = first_batch;
        }
        let mut segment = Segment { number, file, len, end: 0, index_max: None };
        let (whole, stop) = self.scan(&mut segment, &bytes)?;
        segment.end = whole as u64;
        if is_zero(&bytes[whole..]) {
            return Ok(segment);
        }
        self.judge(number, is_last, &bytes, &stop)?;
        warn!(
            file = %self.volume.locate(&name), offset = whole, reason = stop.reason,
            "cut off a batch that a crash left half written; it was never acknowledged",
        );
        segment.file.zero_from(whole as u64).map_err(|source| io("cut", source))?;
        segment.file.sync().map_err(|source| io("sync", source))?;
        Ok(segment)
    }

    /// Replays whole batches; returns where they end, and what is there.
    fn scan(&mut self, segment: &mut Segment, bytes: &Bytes) -> Result<(usize, Stop), StoreError> {
        let mut batch: Vec<(Header, usize, usize)> = Vec::new();
        let (mut offset, mut whole) = (segment::HEADER_BYTES, segment::HEADER_BYTES);
        let stop = loop {
            match record::parse(&bytes[offset..]) {
                Parsed::Unwritten => break Stop { offset, reason: "the batch is incomplete", reach: None },
                Parsed::Bad { reason, reach } => break Stop { offset, reason, reach: Some(reach) },
                Parsed::Record { header, bytes: len } => {
                    if header.batch != self.next_batch {
                        let reason = format!("a record of batch {}, expected {}", header.batch, self.next_batch);
                        return Err(self.damaged(segment.number, offset, reason));
                    }
                    batch.push((header, offset, len));
                    offset += len;
                    if header.last_of_batch {
                        self.next_batch += 1;
                        whole = offset;
                        for (header, offset, len) in batch.drain(..) {
                            self.record(segment, &header, offset, &bytes.slice(offset..offset + len))?;
                        }
                    }
                }
            }
        };
        Ok((whole, stop))
    }

    fn record(
        &mut self,
        segment: &mut Segment,
        header: &Header,
        offset: usize,
        record: &Bytes,
    ) -> Result<(), StoreError> {
        let number = segment.number;
        let damaged = |this: &Self, reason: String| Err(this.damaged(number, offset, reason));
        match header.kind {
            Kind::Truncate => {
                if self.committed.is_some_and(|committed| header.id.index <= committed.index) {
                    return damaged(self, format!("entries from {} on are taken back, which is committed", header.id));
                }
                while self.undecided.pop_back_if(|entry| entry.log_id.index >= header.id.index).is_some() {}
                self.contents.truncate(header.id.index);
            }
            Kind::Purge => {
                while self.undecided.pop_front_if(|entry| entry.log_id.index <= header.id.index).is_some() {}
                self.contents.purge(header.id);
            }
            Kind::Committed => {
                while let Some(entry) = self.undecided.pop_front_if(|entry| entry.log_id.index <= header.id.index) {
                    if entry.log_id.index == header.id.index && entry.log_id != header.id {
                        return damaged(self, format!("{} is committed, but {} was written", header.id, entry.log_id));
                    }
                    let id = entry.log_id;
                    (self.sink)(entry).or_else(|reason| damaged(self, format!("entry {id}: {reason}")))?;
                }
                self.committed = self.committed.max(Some(header.id));
            }
            Kind::Blank | Kind::Command | Kind::Membership => {
                match self.contents.next_index() {
                    // The entries between were in a segment that was removed after the purge that a later record tells
                    // of; `check_start` looks whether it does.
                    Some(expected) if expected < header.id.index && self.begins_purged => {
                        self.contents.forget_recovered();
                        self.undecided.clear();
                    }
                    Some(expected) if expected != header.id.index => {
                        let reason = format!("entry {}, expected {expected}", header.id.index);
                        return Err(self.damaged(segment.number, offset, reason));
                    }
                    _ => {}
                }
                segment.covers(header.id.index);
                let entry = record::entry(header, record).map_err(|reason| self.damaged(number, offset, reason))?;
                let spot = Spot { file: segment.file.clone(), offset: offset as u64, bytes: record.len() };
                self.undecided.push_back(entry);
                self.contents.push_recovered(header.id, spot);
            }
        }
        Ok(())
    }

    /// Whether what follows the last whole batch can be the trace of a crash.
    fn judge(&self, number: u64, is_last: bool, bytes: &[u8], stop: &Stop) -> Result<(), StoreError> {
        let damaged = |reason: String| Err(self.damaged(number, stop.offset, reason));
        if !is_last {
            return damaged(format!("{}, and a later segment follows", stop.reason));
        }
        if let Some(later) = later_batch(&bytes[stop.offset..], self.next_batch) {
            return damaged(format!("{}, and a record of the later batch {later} follows", stop.reason));
        }
        match stop.reach {
            Some(reach) if !record::looks_torn(bytes, stop.offset, reach) => damaged(stop.reason.to_owned()),
            _ => Ok(()),
        }
    }

    /// A log whose first segments were purged must say so further on.
    fn check_start(&self, segments: &VecDeque<Segment>) -> Result<(), StoreError> {
        let Some(first) = segments.front().filter(|first| first.number > 1) else { return Ok(()) };
        let purged_next = self.contents.purged().map(|purged| purged.index + 1);
        let complete = match (purged_next, self.contents.first_index()) {
            (Some(purged_next), Some(first_index)) => first_index == purged_next,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if complete {
            return Ok(());
        }
        Err(StoreError::Missing { file: self.volume.locate(&segment::name(first.number - 1)) })
    }

    fn damaged(&self, number: u64, offset: usize, reason: String) -> StoreError {
        StoreError::Damaged { file: self.volume.locate(&segment::name(number)), offset: offset as u64, reason }
    }
}

/// Sectors at a time, since what is set aside is long and empty.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
    bytes.chunks(SECTOR_BYTES).all(|sector| sector == &ZEROS[..sector.len()])
}

/// A batch later than `batch` of which a record begins somewhere in `bytes`.
fn later_batch(bytes: &[u8], batch: u64) -> Option<u64> {
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() >= record::HEADER_BYTES) {
        if let Ok(header) = record::parse_header(rest)
            && header.batch > batch
        {
            return Some(header.batch);
        }
        offset += record::ALIGN;
    }
    None
}
