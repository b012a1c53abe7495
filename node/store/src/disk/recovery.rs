//! What a start makes of what is on the device.
//!
//! A segment that was sealed is read in one go: its footer says what is in it. One that was not (the process was killed, or
//! the power went) is read whole, record by record, and every block's data is checked; what no longer is a record is cut
//! off if nothing follows it, and passed over if something does. Whatever cannot be read is empty space: a cache has no
//! damage that keeps it from starting.

use std::io::{self, IoSlice, IoSliceMut};

use weft_types::Checksum;

use super::device::Device;
use super::format::{FooterEntry, PAGE_BYTES, RecordHeader, SegmentHeader, StoreId, Trailer, footer_pages, pages};
use super::index::{Index, SegmentState};
use super::pages::PageBuffer;
use super::tier::{DiskError, DiskOptions};

/// Segments between two lines of the log.
const PROGRESS: usize = 64;

/// Bytes of a footer that are read with its trailer: the table of a segment of 330 blocks. A longer one costs another read.
const FOOTER_BYTES: u64 = 16 << 10;

/// How far behind something that is no record the next one is looked for: 64 MiB, several times the longest write.
const GAP_BYTES_MAX: u64 = 64 << 20;

/// Bytes read at once while looking.
const LOOK_BYTES: u64 = 1 << 20;

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) store: StoreId,
    pub(super) index: Index,
    /// Of the next segment.
    pub(super) generation: u64,
    pub(super) wear_bytes: u64,
}

/// How a segment was read.
#[derive(Default)]
struct Tally {
    read_whole: usize,
    damaged_blocks: u64,
    unreadable_segments: usize,
}

/// Reads every segment.
pub(super) fn recover(
    device: &dyn Device,
    options: &DiskOptions,
    segment_bytes: u64,
    segments: u32,
) -> Result<Recovered, DiskError> {
    let mut recovered =
        Recovered { store: options.fresh_id, index: Index::new(segments), generation: 1, wear_bytes: 0 };
    let mut tally = Tally::default();
    let mut headers = Vec::new();
    let mut store = None;
    let mut numbers = device.segments()?;
    numbers.sort_unstable();
    for number in numbers {
        let header = read_header(device, number);
        if let Some(header) = &header
            && header.owner != options.owner.to_string()
        {
            return Err(DiskError::Foreign { found: header.owner.clone(), owner: options.owner.clone() });
        }
        if number >= segments || !device.bytes(number).is_ok_and(|bytes| bytes == segment_bytes) {
            tracing::warn!(segment = number, "disk tier: a segment of another size is removed, with its blocks");
            drop(device.remove(number));
            continue;
        }
        recovered.index.set_state(number, SegmentState::Free);
        match header.filter(|header| header.segment_bytes == segment_bytes) {
            Some(header) if *store.get_or_insert(header.store) == header.store => headers.push(header),
            _ => tally.unreadable_segments += 1,
        }
    }
    recovered.store = store.unwrap_or(options.fresh_id);
    // In the order of their lives: of a block that was written twice, the later one counts.
    headers.sort_by_key(|header| header.generation);
    for (done, header) in headers.iter().enumerate() {
        if done > 0 && done % PROGRESS == 0 {
            tracing::info!(
                segments = done,
                of = headers.len(),
                blocks = recovered.index.len(),
                "reading the disk tier"
            );
        }
        recovered.segment(device, header, &mut tally);
    }
    tracing::info!(
        segments = headers.len(),
        blocks = recovered.index.len(),
        bytes = recovered.index.bytes(),
        read_whole = tally.read_whole,
        damaged_blocks = tally.damaged_blocks,
        unreadable_segments = tally.unreadable_segments,
        "read the disk tier",
    );
    Ok(recovered)
}

impl Recovered {
    fn segment(&mut self, device: &dyn Device, header: &SegmentHeader, tally: &mut Tally) {
        self.generation = self.generation.max(header.generation + 1);
        self.wear_bytes = self.wear_bytes.max(header.wear_bytes);
        let entries = match read_footer(device, header) {
            Some(entries) => entries,
            None => {
                tally.read_whole += 1;
                let entries = Scan { device, header, page: PageBuffer::new(PAGE_BYTES) }.records(tally);
                if !entries.is_empty()
                    && let Err(error) = seal(device, header, &entries)
                {
                    tracing::warn!(%error, segment = header.segment, "disk tier: cannot seal a segment: read again next time");
                }
                entries
            }
        };
        if entries.is_empty() {
            return;
        }
        self.index.set(header.segment, SegmentState::Sealed, header.generation);
        entries.into_iter().for_each(|entry| self.index.insert(header.segment, entry));
    }
}

fn read_header(device: &dyn Device, segment: u32) -> Option<SegmentHeader> {
    let mut page = PageBuffer::new(PAGE_BYTES);
    read(device, segment, 0, page.bytes_mut()).ok()?;
    let header = SegmentHeader::decode(&page.pages_mut()[0])?;
    (header.segment == segment).then_some(header)
}

/// What the footer says, if there is one of this life of the segment.
fn read_footer(device: &dyn Device, header: &SegmentHeader) -> Option<Vec<FooterEntry>> {
    let length = FOOTER_BYTES.min(header.segment_bytes);
    let start = header.segment_bytes - length;
    let mut end = PageBuffer::new(to_len(length));
    read(device, header.segment, start, end.bytes_mut()).ok()?;
    let trailer = Trailer::decode(end.pages_mut().last()?, header.store)?;
    if (trailer.segment, trailer.generation) != (header.segment, header.generation) {
        return None;
    }
    let table = trailer.table(header.segment_bytes)?;
    let entries = if table.start >= start {
        trailer.entries(&end.bytes()[to_len(table.start - start)..to_len(table.end - start)], header.store)?
    } else {
        let mut whole = PageBuffer::new(to_len(table.end - table.start));
        read(device, header.segment, table.start, whole.bytes_mut()).ok()?;
        trailer.entries(whole.bytes(), header.store)?
    };
    let first = table.start / PAGE_BYTES as u64;
    let inside =
        |entry: &FooterEntry| entry.page > 0 && u64::from(entry.page) + 1 + pages(u64::from(entry.bytes)) <= first;
    entries.iter().all(inside).then_some(entries)
}

fn seal(device: &dyn Device, header: &SegmentHeader, entries: &[FooterEntry]) -> io::Result<()> {
    let length = footer_pages(entries.len() as u64) * PAGE_BYTES as u64;
    let mut footer = PageBuffer::new(to_len(length));
    Trailer::encode(header.store, (header.segment, header.generation), entries, footer.bytes_mut());
    // What was read may never have been synced.
    device.sync(header.segment)?;
    device.write(header.segment, header.segment_bytes - length, &mut [IoSlice::new(footer.bytes())])?;
    device.sync(header.segment)
}

/// A segment read record by record.
struct Scan<'a> {
    device: &'a dyn Device,
    header: &'a SegmentHeader,
    page: PageBuffer,
}

impl Scan<'_> {
    /// Every block that is there as it was written.
    fn records(mut self, tally: &mut Tally) -> Vec<FooterEntry> {
        let (mut entries, mut at, mut records) = (Vec::new(), 1, 0_u64);
        loop {
            let record = match self.record(at) {
                Some(record) => record,
                None => match self.next_record(at) {
                    Some(record) => record,
                    None => break,
                },
            };
            let missing = u64::from(record.sequence).saturating_sub(records);
            tally.damaged_blocks += missing;
            records = u64::from(record.sequence) + 1;
            at = u64::from(record.page) + record.pages();
            if self.is_whole(&record) {
                let bytes =
                    u32::try_from(record.space.block_bytes()).expect("it fits into its segment, as was checked");
                entries.push(FooterEntry {
                    block: record.block,
                    page: record.page,
                    bytes,
                    contract: record.space.contract,
                });
            } else {
                tally.damaged_blocks += 1;
            }
        }
        let cut = at * PAGE_BYTES as u64;
        tracing::info!(
            segment = self.header.segment,
            blocks = entries.len(),
            cut,
            "disk tier: read an unfinished segment"
        );
        entries
    }

    /// The record at a page.
    fn record(&mut self, at: u64) -> Option<RecordHeader> {
        if at >= pages(self.header.segment_bytes) {
            return None;
        }
        read(self.device, self.header.segment, at * PAGE_BYTES as u64, self.page.bytes_mut()).ok()?;
        let record = RecordHeader::decode(&self.page.pages_mut()[0], self.header.store)?;
        self.belongs(&record, at).then_some(record)
    }

    fn belongs(&self, record: &RecordHeader, at: u64) -> bool {
        let fits = u32::try_from(record.space.block_bytes()).is_ok()
            && at + record.pages() + footer_pages(1) <= pages(self.header.segment_bytes);
        let here = (record.segment, record.generation) == (self.header.segment, self.header.generation);
        here && u64::from(record.page) == at && fits
    }

    /// The first record behind something that is none, if it is near.
    fn next_record(&mut self, from: u64) -> Option<RecordHeader> {
        let end = (from * PAGE_BYTES as u64).saturating_add(GAP_BYTES_MAX).min(self.header.segment_bytes);
        let mut offset = from * PAGE_BYTES as u64;
        let mut look = PageBuffer::new(to_len(LOOK_BYTES));
        while offset < end {
            let length = to_len(LOOK_BYTES.min(end - offset));
            let window = &mut look.bytes_mut()[..length];
            if read(self.device, self.header.segment, offset, window).is_ok() {
                for (page, at) in look.pages_mut()[..length / PAGE_BYTES].iter().zip(offset / PAGE_BYTES as u64..) {
                    let record = RecordHeader::decode(page, self.header.store);
                    if let Some(record) = record.filter(|record| self.belongs(record, at)) {
                        return Some(record);
                    }
                }
            }
            offset += LOOK_BYTES;
        }
        None
    }

    fn is_whole(&self, record: &RecordHeader) -> bool {
        let bytes = record.space.block_bytes();
        let mut data = PageBuffer::new(to_len(bytes));
        let offset = (u64::from(record.page) + 1) * PAGE_BYTES as u64;
        let read = read(self.device, self.header.segment, offset, data.bytes_mut());
        read.is_ok() && Checksum::of(&data.bytes()[..to_len(bytes)]) == record.checksum
    }
}

fn read(device: &dyn Device, segment: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
    device.read(segment, offset, &mut [IoSliceMut::new(into)])
}

fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a segment's pages fit into the address space")
}
