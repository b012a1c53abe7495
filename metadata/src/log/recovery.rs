//! Reading the log back at start: every segment is scanned, checked and replayed.
//!
//! A batch is one write followed by one sync, and the next batch is written only after it. So the only place where a
//! crash can leave anything but whole records is the last batch of the last segment, and there, bytes that the device
//! left out read as zero. Exactly that is cut off, with a line in the log; it was never acknowledged. A crash between making a
//! segment and saying so in the one before leaves an empty one, and is made good. Anything else is damage: the member refuses to start, since a log that lost an acknowledged entry could undo a commit.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::contents::{Contents, Spot};
use super::record::{self, Header, Kind, Parsed};
use super::segment::{self, Segment};
use crate::error::StoreError;
use crate::raft::{Entry, LogId};
use crate::volume::{SECTOR_BYTES, Volume, VolumeFile, first_unreadable};

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
        kept: 1,
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
        segments.push_back(replay.segment(number, &numbers[at + 1..])?);
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
    /// Oldest segment that may not be gone.
    kept: u64,
    committed: Option<LogId>,
    /// Entries that a later record may take back, or say to be committed.
    undecided: VecDeque<Entry>,
    sink: Sink<'a>,
}

/// What a scan found.
struct Scanned {
    /// Where whole batches end.
    whole: usize,
    /// The last record says that the log goes on in the next segment.
    continued: bool,
    stop: Stop,
}

/// Where a scan stopped.
struct Stop {
    offset: usize,
    reason: &'static str,
    /// `None`: nothing is written there.
    reach: Option<usize>,
}

impl Replay<'_> {
    fn segment(&mut self, number: u64, later: &[u64]) -> Result<Segment, StoreError> {
        let (file, bytes) = self.read(number)?;
        let first_batch = segment::check_header(&bytes, number).map_err(|reason| self.damaged(number, 0, reason))?;
        if number == 1 || self.next_batch > 1 {
            if first_batch != self.next_batch {
                let reason = format!("its first batch is {first_batch}, expected {}", self.next_batch);
                return Err(self.damaged(number, 0, reason));
            }
        } else {
            self.next_batch = first_batch;
        }
        let mut segment = Segment { number, file, len: bytes.len() as u64, end: 0, index_max: None };
        let Scanned { whole, continued, stop } = self.scan(&mut segment, &bytes)?;
        segment.end = whole as u64;
        let rest_is_zero = is_zero(&bytes[whole..]);
        match later {
            [] if continued => {
                return Err(StoreError::Missing { file: self.volume.locate(&segment::name(number + 1)) });
            }
            _ if continued && !rest_is_zero => return Err(self.damaged(number, whole, stop.reason.to_owned())),
            [_, ..] if !continued => self.judge_unfinished(number, later, whole, &stop)?,
            _ => {}
        }
        if !rest_is_zero {
            self.judge(number, &bytes, &stop)?;
            self.cut(&segment, &bytes, stop.reason)?;
        }
        if !later.is_empty() && !continued {
            let io = |source| StoreError::io("write", self.volume.locate(&segment::name(number)), source);
            segment.continue_with(self.next_batch).map_err(io)?;
        }
        Ok(segment)
    }

    fn read(&self, number: u64) -> Result<(Arc<dyn VolumeFile>, Bytes), StoreError> {
        let name = segment::name(number);
        let io = |operation, source| StoreError::io(operation, self.volume.locate(&name), source);
        let file = self.volume.open(&name).map_err(|source| io("open", source))?;
        let len = file.len().map_err(|source| io("read", source))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io("read", std::io::ErrorKind::FileTooLarge.into()))?];
        file.read_at(0, &mut bytes).map_err(|source| StoreError::Unreadable {
            file: self.volume.locate(&name),
            offset: first_unreadable(&*file, len),
            source,
        })?;
        Ok((file, bytes.into()))
    }

    /// Makes what follows the last whole batch read as zero again.
    fn cut(&self, segment: &Segment, bytes: &[u8], reason: &str) -> Result<(), StoreError> {
        let file = self.volume.locate(&segment::name(segment.number));
        warn!(
            %file, offset = segment.end, reason,
            "cut off a batch that a crash left half written; it was never acknowledged",
        );
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let whole = usize::try_from(segment.end).expect("the segment is in memory");
        let zeros = vec![0; end.saturating_sub(whole)];
        let cut = segment.file.write_at(segment.end, &zeros).and_then(|()| segment.file.sync());
        cut.map_err(|source| StoreError::io("cut", file, source))
    }

    /// Replays whole batches.
    fn scan(&mut self, segment: &mut Segment, bytes: &Bytes) -> Result<Scanned, StoreError> {
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
                    if header.kind == Kind::Continued {
                        if !batch.is_empty() || header.id.index != segment.number + 1 {
                            let reason = format!("it goes on in segment {} in the midst of a batch", header.id.index);
                            return Err(self.damaged(segment.number, offset, reason));
                        }
                        let reason = "something follows the last record of the segment";
                        let stop = Stop { offset: offset + len, reason, reach: None };
                        return Ok(Scanned { whole: offset + len, continued: true, stop });
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
        Ok(Scanned { whole, continued: false, stop })
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
                let kept =
                    record::purge_keeps(header, record).map_err(|reason| self.damaged(number, offset, reason))?;
                self.kept = self.kept.max(kept);
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
            Kind::Continued => unreachable!("a scan ends at it"),
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

    /// Whether a segment that does not say that the log goes on may have `later` ones: an empty one, since the crash came before
    /// that was said, or while it was.
    fn judge_unfinished(&self, number: u64, later: &[u64], whole: usize, stop: &Stop) -> Result<(), StoreError> {
        let damaged = |reason: &str| Err(self.damaged(number, stop.offset, reason.to_owned()));
        let [next] = later else { return damaged("it does not say that the log goes on, and later segments follow") };
        let (_, bytes) = self.read(*next)?;
        if !is_zero(bytes.get(segment::HEADER_BYTES..).unwrap_or(&[])) {
            return damaged("it does not say that the log goes on, and a segment that is in use follows");
        }
        if stop.offset != whole || stop.reach.is_some_and(|reach| reach > record::CONTINUED_BYTES) {
            return damaged(stop.reason);
        }
        Ok(())
    }

    /// Whether what follows the last whole batch can be the trace of a crash.
    fn judge(&self, number: u64, bytes: &[u8], stop: &Stop) -> Result<(), StoreError> {
        let damaged = |reason: String| Err(self.damaged(number, stop.offset, reason));
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
        if self.kept < first.number {
            return Err(StoreError::Missing { file: self.volume.locate(&segment::name(first.number - 1)) });
        }
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
