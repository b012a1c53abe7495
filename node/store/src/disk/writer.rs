//! The one writer of a disk tier: blocks go to the end of the active segment, a batch a write; a full segment is sealed with
//! a footer, and the oldest one makes room.
//!
//! ```text
//!   append ─► active ── full ─► sync, footer, sync ─► sealed ── oldest ─► leased and used blocks written again ─► free ─► active
//! ```
//!
//! # What is synced, and when
//! A segment's header before its first record, its records before its footer, and the footer: three syncs a segment, none a
//! batch. A loss of power costs the blocks of the active segment at most, which is a cache's to lose; a killed process
//! costs nothing that was appended. A block that was written again is synced before the segment it came from is overwritten,
//! since that one becomes the next active segment, after this one was sealed.

use std::io::IoSlice;
use std::sync::Arc;

use hashbrown::HashSet;
use weft_types::{BlockHash, Checksum};

use super::format::{
    FooterEntry, PAGE_BYTES, PARTS_MAX, RecordHeader, SegmentHeader, Space, Trailer, footer_pages, pages,
};
use super::index::{Found, SegmentState};
use super::pages::{PageBuffer, is_aligned};
use super::stats::add;
use super::tier::DiskTier;
use crate::LeasedKeys;

/// Bytes of one write: 16 MiB, many times what any device needs to run at full speed, and short enough to wait for.
const WRITE_BYTES_MAX: u64 = 16 << 20;

/// Blocks of one write: 256, two buffers each, half of what one call takes.
const WRITE_BLOCKS_MAX: usize = 256;

/// A block to be written.
#[derive(Clone, Copy, Debug)]
pub struct DiskBlock<'a> {
    /// Which.
    pub block: BlockHash,
    /// Checksum of its bytes, made by its writer.
    pub checksum: Checksum,
    /// What it is.
    pub space: &'a Space,
    /// Its bytes, and any number behind them. Whole pages, aligned, are written as they are; others are copied first.
    pub bytes: &'a [u8],
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Blocks that can be read from disk now.
    pub stored: usize,
    /// Blocks that could be already.
    pub present: usize,
    /// Blocks that fit into no segment, have too many parts, or come with fewer bytes than they say.
    pub refused: usize,
}

/// The device failed. Blocks of the batch that were written before are on disk; the rest is not. The next call goes on
/// with another segment.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} of the disk tier: {source}")]
pub struct WriteError {
    /// What was attempted.
    pub operation: &'static str,
    /// What the device said.
    #[source]
    pub source: std::io::Error,
}

/// Appends blocks. There is one a tier.
#[derive(Debug)]
pub struct DiskWriter {
    tier: Arc<DiskTier>,
    /// Of the next segment.
    generation: u64,
    active: Option<Active>,
    headers: PageBuffer,
    staged: PageBuffer,
    /// Creating one failed: from then on there are as many as there are.
    no_more_segments: bool,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    segment: u32,
    generation: u64,
    /// First page that is not written.
    page: u64,
    /// Records so far.
    records: u32,
}

impl DiskWriter {
    pub(super) fn new(tier: Arc<DiskTier>, generation: u64) -> Self {
        Self {
            tier,
            generation,
            active: None,
            headers: PageBuffer::new(0),
            staged: PageBuffer::new(0),
            no_more_segments: false,
        }
    }

    /// The tier.
    #[must_use]
    pub fn tier(&self) -> &Arc<DiskTier> {
        &self.tier
    }

    /// Writes blocks, in as few writes as they fit in. They can be read when this returns.
    ///
    /// # Errors
    /// The device failed.
    pub fn append(&mut self, blocks: &[DiskBlock<'_>]) -> Result<Appended, WriteError> {
        let mut done = Appended::default();
        let mut new = Vec::with_capacity(blocks.len());
        let mut seen = HashSet::with_capacity(blocks.len());
        for block in blocks {
            if !self.fits_at_all(block) {
                done.refused += 1;
            } else if self.tier.contains(&block.block) || !seen.insert(block.block) {
                done.present += 1;
            } else {
                new.push(*block);
            }
        }
        let mut rest = &new[..];
        while !rest.is_empty() {
            let count = self.fitting(rest);
            if count == 0 {
                self.roll()?;
                continue;
            }
            let (now, later) = rest.split_at(count);
            self.write(now)?;
            let bytes: u64 = now.iter().map(|block| block.space.block_bytes()).sum();
            add(&self.tier.counters.stored_blocks, count as u64);
            add(&self.tier.counters.stored_bytes, bytes);
            done.stored += count;
            rest = later;
        }
        Ok(done)
    }

    /// Makes everything appended so far survive a loss of power.
    ///
    /// # Errors
    /// The device failed: then nothing is known of the active segment's blocks, and each is checked when it is read.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        let Some(active) = self.active else { return Ok(()) };
        self.tier.device.sync(active.segment).map_err(|source| self.failed("sync a segment", source))
    }

    /// Ends the active segment, so that the next start need not read it.
    ///
    /// # Errors
    /// The device failed: the next start reads it.
    pub fn seal(&mut self) -> Result<(), WriteError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        self.tier.index().set_state(active.segment, SegmentState::Sealed);
        // Nothing says that a record is there before it surely is.
        self.tier.device.sync(active.segment).map_err(|source| self.failed("sync a segment", source))?;
        let entries = self.tier.index().footer(active.segment);
        let footer = footer(&self.tier, (active.segment, active.generation), &entries);
        let page = self.tier.segment_pages() - pages(footer.bytes().len() as u64);
        let written = self.tier.write(active.segment, page, &mut [IoSlice::new(footer.bytes())]);
        written.map_err(|source| self.failed("write a footer", source))?;
        self.tier.device.sync(active.segment).map_err(|source| self.failed("sync a footer", source))
    }

    fn failed(&self, operation: &'static str, source: std::io::Error) -> WriteError {
        add(&self.tier.counters.io_errors, 1);
        WriteError { operation, source }
    }

    fn fits_at_all(&self, block: &DiskBlock<'_>) -> bool {
        let bytes = block.space.block_bytes();
        // The header, the record and its own footer; half of a segment, so that used blocks can be written again.
        let pages = 1 + record_pages(block) + footer_pages(1);
        let whole = block.bytes.len() as u64 >= bytes && bytes > 0;
        whole
            && u32::try_from(bytes).is_ok()
            && block.space.parts.len() <= PARTS_MAX
            && 2 * pages <= self.tier.segment_pages()
    }

    /// How many of the blocks go into one write to the active segment.
    fn fitting(&self, blocks: &[DiskBlock<'_>]) -> usize {
        let Some(active) = self.active else { return 0 };
        let (mut page, mut records) = (active.page, u64::from(active.records));
        let start = page;
        let fits = |block: &&DiskBlock<'_>| {
            page += record_pages(block);
            records += 1;
            let first = records == u64::from(active.records) + 1;
            page + footer_pages(records) <= self.tier.segment_pages()
                && (first || (page - start) * PAGE_BYTES as u64 <= WRITE_BYTES_MAX)
        };
        blocks.iter().take(WRITE_BLOCKS_MAX).take_while(fits).count()
    }

    /// One write of blocks that fit. On failure the segment is ended where it is.
    fn write(&mut self, blocks: &[DiskBlock<'_>]) -> Result<(), WriteError> {
        let Some(active) = self.active else { return Ok(()) };
        self.headers.at_least(blocks.len() * PAGE_BYTES);
        let (mut page, mut entries) = (active.page, Vec::with_capacity(blocks.len()));
        for ((block, header), sequence) in blocks.iter().zip(self.headers.pages_mut()).zip(active.records..) {
            // A segment has fewer than 2^31 pages, and a block fewer than 2^32 bytes: both were checked.
            let at = u32::try_from(page).unwrap_or(u32::MAX);
            let record = RecordHeader {
                segment: active.segment,
                generation: active.generation,
                sequence,
                page: at,
                block: block.block,
                checksum: block.checksum,
                space: block.space.clone(),
            };
            record.encode(self.tier.store, header);
            let bytes = u32::try_from(block.space.block_bytes()).unwrap_or(u32::MAX);
            entries.push(FooterEntry { block: block.block, page: at, bytes, contract: block.space.contract });
            page += record_pages(block);
        }
        stage(&mut self.staged, blocks);
        let mut staged = self.staged.bytes();
        let mut buffers = Vec::with_capacity(2 * blocks.len());
        for (header, block) in self.headers.bytes().chunks_exact(PAGE_BYTES).zip(blocks) {
            let padded = padded(block);
            let data = match as_it_is(block) {
                Some(bytes) => bytes,
                None => staged.split_off(..padded).unwrap_or_default(),
            };
            buffers.extend([IoSlice::new(header), IoSlice::new(data)]);
        }
        if let Err(source) = self.tier.write(active.segment, active.page, &mut buffers) {
            let error = self.failed("write blocks", source);
            if let Err(error) = self.seal() {
                tracing::warn!(%error, "the segment stays without a footer: the next start reads it");
            }
            return Err(error);
        }
        let records = active.records + u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        self.active = Some(Active { page, records, ..active });
        let mut index = self.tier.index();
        entries.into_iter().for_each(|entry| index.insert(active.segment, entry));
        Ok(())
    }

    /// Ends the active segment and begins another; then the oldest one makes room for the next.
    fn roll(&mut self) -> Result<(), WriteError> {
        if let Err(error) = self.seal() {
            tracing::warn!(%error, "a segment stays without a footer: the next start reads it");
        }
        let segment = self.free_segment()?;
        let generation = self.generation;
        self.generation += 1;
        let header = SegmentHeader {
            store: self.tier.store,
            segment,
            generation,
            segment_bytes: self.tier.segment_bytes,
            wear_bytes: self.tier.stats().wear_bytes,
            owner: self.tier.owner.to_string(),
        };
        let mut page = PageBuffer::new(PAGE_BYTES);
        page.bytes_mut().copy_from_slice(&header.encode());
        let begun = self.tier.write(segment, 0, &mut [IoSlice::new(page.bytes())]);
        if let Err(source) = begun.and_then(|()| self.tier.device.sync(segment)) {
            self.tier.index().set_state(segment, SegmentState::Failed);
            return Err(self.failed("begin a segment", source));
        }
        self.tier.index().set(segment, SegmentState::Active, generation);
        self.active = Some(Active { segment, generation, page: 1, records: 0 });
        let full = self.no_more_segments || self.tier.index().first(SegmentState::Absent).is_none();
        if full && self.tier.index().first(SegmentState::Free).is_none() {
            self.reclaim();
        }
        Ok(())
    }

    fn free_segment(&mut self) -> Result<u32, WriteError> {
        let (free, absent) = {
            let index = self.tier.index();
            (index.first(SegmentState::Free), index.first(SegmentState::Absent))
        };
        if let Some(segment) = free {
            return Ok(segment);
        }
        if let Some(segment) = absent.filter(|_| !self.no_more_segments) {
            match self.tier.device.create(segment, self.tier.segment_bytes) {
                Ok(()) => return Ok(segment),
                Err(source) => {
                    let error = self.failed("make another segment", source);
                    tracing::warn!(%error, "the disk tier stays as large as it is: free space in its file system");
                    self.no_more_segments = true;
                }
            }
        }
        let oldest = self.victim(&self.tier.leased());
        let nothing = || WriteError { operation: "find a segment", source: std::io::ErrorKind::StorageFull.into() };
        let oldest = oldest.ok_or_else(nothing)?;
        self.free(oldest);
        Ok(oldest)
    }

    /// The segment that makes room next: the oldest, but for those that leased blocks fill by more than half. When they fill all
    /// segments so, the oldest.
    fn victim(&self, leased: &LeasedKeys) -> Option<u32> {
        let sealed = self.tier.index().sealed();
        let half = self.tier.segment_pages() / 2;
        let spare = |segment: &&u32| leased.is_empty() || self.tier.index().leased_pages(**segment, leased) <= half;
        sealed.iter().find(spare).or(sealed.first()).copied()
    }

    /// A segment makes room. Its blocks that are leased are written again, and those that were read, while that is in
    /// proportion; of both together no more than half a segment, so that there is room in the end.
    fn reclaim(&mut self) {
        let leased = self.tier.leased();
        let Some(victim) = self.victim(&leased) else { return };
        let worth = self.tier.index().worth_keeping(victim, &leased);
        let stats = self.tier.stats();
        let share = stats.stored_bytes / 100 * u64::from(self.tier.rewrite_percent);
        let mut budget = share.saturating_sub(stats.rewritten_bytes);
        let mut room = self.tier.segment_pages() / 2;
        for (block, found, is_leased) in worth {
            let bytes = u64::from(found.bytes);
            let Some(left) = room.checked_sub(1 + pages(bytes)) else { break };
            room = left;
            if !is_leased {
                let Some(left) = budget.checked_sub(bytes) else { break };
                budget = left;
            }
            if let Err(error) = self.write_again(&block, &found) {
                tracing::warn!(%error, "blocks worth keeping go with their segment");
                break;
            }
        }
        self.free(victim);
    }

    fn write_again(&mut self, block: &BlockHash, found: &Found) -> Result<(), WriteError> {
        let mut data = PageBuffer::new(found.bytes as usize);
        let header = match self.tier.read_record(block, found, data.bytes_mut()) {
            Ok(header) => header,
            Err(bad) => {
                self.tier.drop_bad(block, found, bad);
                return Ok(());
            }
        };
        let again = [DiskBlock { block: *block, checksum: header.checksum, space: &header.space, bytes: data.bytes() }];
        if self.fitting(&again) == 1 && self.tier.index().is_current(found) {
            self.write(&again)?;
            add(&self.tier.counters.rewritten_blocks, 1);
            add(&self.tier.counters.rewritten_bytes, u64::from(found.bytes));
        }
        Ok(())
    }

    fn free(&self, segment: u32) {
        let mut index = self.tier.index();
        let gone = index.empty(segment);
        index.set_state(segment, SegmentState::Free);
        add(&self.tier.counters.evicted_blocks, gone as u64);
    }
}

/// A footer's pages.
pub(super) fn footer(tier: &DiskTier, life: (u32, u64), entries: &[FooterEntry]) -> PageBuffer {
    let bytes = footer_pages(entries.len() as u64) * PAGE_BYTES as u64;
    let mut footer = PageBuffer::new(usize::try_from(bytes).expect("it fits into a segment"));
    Trailer::encode(tier.store, life, entries, footer.bytes_mut());
    footer
}

fn padded(block: &DiskBlock<'_>) -> usize {
    usize::try_from(pages(block.space.block_bytes()) * PAGE_BYTES as u64).expect("it is in memory")
}

fn record_pages(block: &DiskBlock<'_>) -> u64 {
    1 + pages(block.space.block_bytes())
}

/// The block's pages, when the device takes them where they are.
fn as_it_is<'a>(block: &DiskBlock<'a>) -> Option<&'a [u8]> {
    block.bytes.get(..padded(block)).filter(|bytes| is_aligned(bytes))
}

/// Copies those that the device would not take to pages of our own, one after the other.
fn stage(staged: &mut PageBuffer, blocks: &[DiskBlock<'_>]) {
    let others = || blocks.iter().filter(|block| as_it_is(block).is_none());
    staged.at_least(others().map(padded).sum());
    let mut into = staged.bytes_mut();
    for block in others() {
        let bytes = usize::try_from(block.space.block_bytes()).expect("it is in memory");
        let Some(pages) = into.split_off_mut(..padded(block)) else { return };
        pages[..bytes].copy_from_slice(&block.bytes[..bytes]);
        pages[bytes..].fill(0);
    }
}
