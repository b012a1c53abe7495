//! The disk tier as everybody but its writer sees it: what is there, and reading it.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use weft_types::{BlockHash, ByteSize, Checksum, NodeId};

use super::device::Device;
use super::format::{FooterEntry, PAGE_BYTES, RecordHeader, Space, StoreId, pages};
use super::index::{Found, Index, SegmentState};
use super::pages::{PageBuffer, is_aligned};
use super::recovery::{self, Recovered};
use super::stats::{Counters, DiskStats, add};
use super::writer::DiskWriter;
use crate::{Cleared, LeasedKeys, TierChange};

/// Fewest segments: one is written, one is kept empty, and the rest is what can be read.
const SEGMENTS_MIN: u64 = 4;

/// Segments that a size is cut into, unless their length is given: each is an open file, and the part of the tier that goes
/// at once.
const SEGMENTS: u64 = 256;

/// Shortest segment by default: 4 MiB. A few blocks have to fit.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// Longest segment by default: 16 GiB, which a start after a crash reads once.
const SEGMENT_BYTES_MAX: u64 = 16 << 30;

/// Pages that a segment may have: their numbers are 32 bits, and offsets stay far from overflow.
const PAGES_MAX: u64 = 1 << 31;

/// What a disk tier is made of.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Whose store it is. A folder of another node is refused.
    pub owner: NodeId,
    /// Sixteen random bytes, used when the store is made.
    pub fresh_id: StoreId,
    /// Disk space, all of it.
    pub size: ByteSize,
    /// Length of a segment. Default: a 256th of the size, at least 4 MiB.
    pub segment_bytes: Option<ByteSize>,
    /// How much may be written again for what is taken in: of a segment that goes, the blocks that were read since are kept
    /// while the bytes written again stay under this share (in percent) of the bytes taken in.
    pub rewrite_percent: u32,
}

/// Why a disk tier cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Too small, or cut into pieces that make no store.
    #[error(
        "a disk tier of {size} in segments of {segment_bytes}: expected at least {SEGMENTS_MIN} segments of at least 64KiB"
    )]
    Size {
        /// As given.
        size: ByteSize,
        /// As given, or by default.
        segment_bytes: ByteSize,
    },
    /// The folder is another node's.
    #[error("the disk folder belongs to node '{found}', and this is '{owner}': give each node its own, or empty it")]
    Foreign {
        /// As written there.
        found: String,
        /// Who opens it.
        owner: NodeId,
    },
    /// The device cannot even say what is on it.
    #[error("cannot list the segments of the disk tier: {0}")]
    Device(#[from] std::io::Error),
}

/// What is on disk, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskHeld {
    /// Blocks that can be read.
    pub blocks: usize,
    /// Bytes of their data.
    pub bytes: u64,
    /// Segments that hold some.
    pub segments: usize,
    /// Segments that the device failed on.
    pub failed_segments: usize,
    /// Memory that the index takes.
    pub index_bytes: usize,
}

/// Blocks on disk. Read from any thread; written by its one [`DiskWriter`].
pub struct DiskTier {
    pub(super) device: Arc<dyn Device>,
    pub(super) store: StoreId,
    pub(super) owner: NodeId,
    pub(super) segment_bytes: u64,
    pub(super) rewrite_percent: u32,
    pub(super) counters: Counters,
    index: Mutex<Index>,
    /// What leases pin.
    leased: Mutex<Arc<LeasedKeys>>,
    changed: Box<dyn Fn() + Send + Sync>,
}

/// Why a record could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bad {
    /// The device failed.
    Io,
    /// It answered with something else.
    Corrupt,
}

impl DiskTier {
    /// Opens what is on the device, or makes a store there: reads what every segment says it holds, and the unfinished
    /// ones whole. `changed` is called whenever there is something to report.
    ///
    /// # Errors
    /// A size that makes no store, a store of another node, a device that does not answer.
    pub fn open(
        device: Arc<dyn Device>,
        options: DiskOptions,
        changed: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(Arc<Self>, DiskWriter), DiskError> {
        let (segment_bytes, segments) = cut(&options)?;
        let Recovered { store, index, generation, wear_bytes } =
            recovery::recover(&*device, &options, segment_bytes, segments)?;
        let counters = Counters { wear_before: wear_bytes, ..Counters::default() };
        let tier = Arc::new(Self {
            device,
            store,
            owner: options.owner,
            segment_bytes,
            rewrite_percent: options.rewrite_percent,
            counters,
            index: Mutex::new(index),
            leased: Mutex::default(),
            changed,
        });
        tier.tell();
        let writer = DiskWriter::new(Arc::clone(&tier), generation);
        Ok((tier, writer))
    }

    /// Whether the block is here, as far as is known without reading it.
    #[must_use]
    pub fn contains(&self, block: &BlockHash) -> bool {
        self.index.lock().find(block).is_some()
    }

    /// Reads a block into the first bytes of `into`, and says the checksum that its writer made. With whole pages, aligned
    /// (as slots of an arena are), nothing is copied on the way.
    ///
    /// `None` is a miss: not here, or not read as it was written, in which case it is dropped, counted, and `into` holds
    /// anything.
    pub fn read(&self, block: &BlockHash, space: &Space, into: &mut [u8]) -> Option<Checksum> {
        let found = self.index.lock().find(block)?;
        let bytes = found.bytes as usize;
        if u64::from(found.bytes) != space.block_bytes() || into.len() < bytes {
            return None;
        }
        let padded = bytes.next_multiple_of(PAGE_BYTES);
        let outcome = if padded <= into.len() && is_aligned(&into[..padded]) {
            self.read_record(block, &found, &mut into[..padded])
        } else {
            let mut staged = PageBuffer::new(padded);
            let outcome = self.read_record(block, &found, staged.bytes_mut());
            into[..bytes].copy_from_slice(&staged.bytes()[..bytes]);
            outcome
        };
        let outcome =
            outcome.and_then(|header| if header.space == *space { Ok(header.checksum) } else { Err(Bad::Corrupt) });
        self.taken(block, &found, outcome)
    }

    /// Reads a record and its data, and checks everything that it says of itself; what it is for is up to the caller.
    pub(super) fn read_record(&self, block: &BlockHash, found: &Found, into: &mut [u8]) -> Result<RecordHeader, Bad> {
        let mut page = PageBuffer::new(PAGE_BYTES);
        let offset = u64::from(found.page) * PAGE_BYTES as u64;
        let mut buffers = [IoSliceMut::new(page.bytes_mut()), IoSliceMut::new(into)];
        if let Err(error) = self.device.read(found.place.segment, offset, &mut buffers) {
            add(&self.counters.io_errors, 1);
            tracing::warn!(%error, segment = found.place.segment, "disk tier: cannot read a block");
            return Err(Bad::Io);
        }
        let header = RecordHeader::decode(&page.pages_mut()[0], self.store).ok_or(Bad::Corrupt)?;
        let here = header.block == *block
            && (header.segment, header.generation, header.page) == (found.place.segment, found.generation, found.page);
        let bytes = found.bytes as usize;
        let whole =
            header.space.block_bytes() == u64::from(found.bytes) && Checksum::of(&into[..bytes]) == header.checksum;
        if here && whole { Ok(header) } else { Err(Bad::Corrupt) }
    }

    /// What was found is no block. A segment that was begun anew while it was read is nobody's fault.
    pub(super) fn drop_bad(&self, block: &BlockHash, found: &Found, bad: Bad) {
        if self.index().remove_found(block, found) {
            add(&self.counters.corrupt_blocks, u64::from(bad == Bad::Corrupt));
            tracing::warn!(
                ?block,
                segment = found.place.segment,
                page = found.page,
                ?bad,
                "disk tier: dropped a block"
            );
        }
    }

    /// Reads a block of `bytes`, whatever its contract, as [`DiskTier::read`] does: for a peer, whose hash says what it wants.
    pub fn read_any(&self, block: &BlockHash, bytes: u64, into: &mut PageBuffer) -> Option<Checksum> {
        let found = self.index.lock().find(block).filter(|found| u64::from(found.bytes) == bytes)?;
        into.at_least(found.bytes as usize);
        let padded = (found.bytes as usize).next_multiple_of(PAGE_BYTES);
        let outcome = self.read_record(block, &found, &mut into.bytes_mut()[..padded]);
        self.taken(block, &found, outcome.map(|header| header.checksum))
    }

    /// What became of a read.
    fn taken(&self, block: &BlockHash, found: &Found, outcome: Result<Checksum, Bad>) -> Option<Checksum> {
        match outcome {
            Ok(checksum) => {
                self.index.lock().used(found);
                add(&self.counters.read_blocks, 1);
                add(&self.counters.read_bytes, u64::from(found.bytes));
                Some(checksum)
            }
            Err(bad) => {
                self.drop_bad(block, found, bad);
                None
            }
        }
    }

    /// From now on these are the blocks that leases pin: they are written again when their segment goes, as long as they fill no
    /// more than half of it all.
    pub fn set_leased(&self, leased: Arc<LeasedKeys>) {
        *self.leased.lock() = leased;
    }

    pub(super) fn leased(&self) -> Arc<LeasedKeys> {
        Arc::clone(&self.leased.lock())
    }

    /// Forgets every block of these contracts (all, when there are none) but those that are to be kept. In steps, so that whoever
    /// needs the index waits for one segment at most.
    pub fn clear(&self, contracts: &[Checksum], mut keep: impl FnMut(&BlockHash) -> bool) -> Cleared {
        let mut cleared = Cleared::default();
        let segments = self.index.lock().segments();
        for segment in 0..segments {
            let mut index = self.index();
            let asked = |entry: &FooterEntry| contracts.is_empty() || contracts.contains(&entry.contract);
            for entry in index.footer(segment).into_iter().filter(asked) {
                match keep(&entry.block) {
                    true => cleared.kept += 1,
                    false => cleared.removed += u64::from(index.remove(&entry.block)),
                }
            }
        }
        cleared
    }

    /// Forgets a block. `false` when it was not here. After a restart it may be back: with the same bytes.
    pub fn remove(&self, block: &BlockHash) -> bool {
        self.index().remove(block)
    }

    /// What changed since this was last called; `None` when that was too much to keep, and [`DiskTier::cut`] has to be
    /// asked.
    #[must_use]
    pub fn take_changes(&self) -> Option<Vec<TierChange>> {
        self.index.lock().changes().take()
    }

    /// Gives every block to `each`, and takes the changes that led there as [`DiskTier::take_changes`] does: both as of one
    /// moment.
    pub fn cut(&self, each: impl FnMut(BlockHash)) -> Option<Vec<TierChange>> {
        let mut index = self.index.lock();
        index.blocks().for_each(each);
        index.changes().take()
    }

    /// In numbers.
    #[must_use]
    pub fn held(&self) -> DiskHeld {
        let index = self.index.lock();
        DiskHeld {
            blocks: index.len(),
            bytes: index.bytes(),
            segments: index.count(SegmentState::Sealed) + index.count(SegmentState::Active),
            failed_segments: index.count(SegmentState::Failed),
            index_bytes: index.memory_bytes(),
        }
    }

    /// What it did.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        self.counters.snapshot()
    }

    /// Whether blocks go past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.device.is_direct()
    }

    /// The index, locked. When it is let go with changes in its log, whoever reports them is told.
    pub(super) fn index(&self) -> IndexGuard<'_> {
        IndexGuard { index: self.index.lock(), tier: self }
    }

    /// Writes pages, and counts them.
    pub(super) fn write(&self, segment: u32, page: u64, from: &mut [IoSlice<'_>]) -> std::io::Result<()> {
        let bytes: usize = from.iter().map(|buffer| buffer.len()).sum();
        add(&self.counters.written_bytes, bytes as u64);
        self.device.write(segment, page * PAGE_BYTES as u64, from)
    }

    /// Pages of a segment.
    pub(super) fn segment_pages(&self) -> u64 {
        pages(self.segment_bytes)
    }

    fn tell(&self) {
        if !self.index.lock().changes().is_empty() {
            (self.changed)();
        }
    }
}

impl fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTier").field("device", &self.device).field("held", &self.held()).finish_non_exhaustive()
    }
}

impl DiskOptions {
    /// Whether the sizes make a store.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self) -> Result<(), DiskError> {
        cut(self).map(|_| ())
    }
}

/// Length and number of the segments.
fn cut(options: &DiskOptions) -> Result<(u64, u32), DiskError> {
    let size = options.size.bytes();
    let default = || (size / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let asked = options.segment_bytes.map_or_else(default, ByteSize::bytes);
    let segment_bytes = asked / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    let fault = DiskError::Size { size: options.size, segment_bytes: ByteSize::from_bytes(asked) };
    let segments = size.checked_div(segment_bytes).unwrap_or(0);
    match u32::try_from(segments) {
        Ok(number) if segments >= SEGMENTS_MIN && (16..=PAGES_MAX).contains(&pages(segment_bytes)) => {
            Ok((segment_bytes, number))
        }
        _ => Err(fault),
    }
}

/// The locked index.
pub(super) struct IndexGuard<'a> {
    index: MutexGuard<'a, Index>,
    tier: &'a DiskTier,
}

impl std::ops::Deref for IndexGuard<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl std::ops::DerefMut for IndexGuard<'_> {
    fn deref_mut(&mut self) -> &mut Index {
        &mut self.index
    }
}

impl Drop for IndexGuard<'_> {
    fn drop(&mut self) {
        if !self.index.changes().is_empty() {
            (self.tier.changed)();
        }
    }
}
