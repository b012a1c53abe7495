//! The bytes of a segment file: its header, its records, its footer. Drawn in `docs/store-format.md`.
//!
//! ```text
//!   page 0   1        1+n                                    …          last page
//!   ┌────────┬────────┬──────────┬────────┬──────────┬───────┬─────────┬─────────┐
//!   │ header │ record │ data     │ record │ data     │ …     │ table   │ trailer │
//!   └────────┴────────┴──────────┴────────┴──────────┴───────┴─────────┴─────────┘
//! ```
//!
//! Everything begins at a page of 4 KiB, so that it can be written and read with direct I/O. All numbers are little-endian.
//! Every page of ours ends in its own checksum, seeded with the store's id: bytes that an engine stored cannot pass for a
//! page of another store, nor for one of this store without knowing its id.

use std::ops::Range;

use weft_types::{BlockHash, Checksum, Contract};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a page: what direct I/O wants of every offset and length, on every device there is.
pub const PAGE_BYTES: usize = 4096;

/// Parts a block may have on disk: as many as a record's page has room for.
pub const PARTS_MAX: usize = (CHECKSUM_AT - PARTS_AT) / 8;

/// Bytes of one entry of a footer's table.
pub const ENTRY_BYTES: usize = 48;

const SEGMENT_MAGIC: &[u8; 8] = b"WEFTSEG1";
const RECORD_MAGIC: &[u8; 8] = b"WEFTREC1";
const TRAILER_MAGIC: &[u8; 8] = b"WEFTIDX2";
const PARTS_AT: usize = 88;
const OWNER_AT: usize = 48;
const CHECKSUM_AT: usize = PAGE_BYTES - 8;

/// A page.
pub type Page = [u8; PAGE_BYTES];

/// Random bytes that a store was given when it was made; no two stores have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId(pub [u8; 16]);

/// What must agree between a block on disk and whoever asks for it, besides its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// Checksum of the canonical model key of its contract.
    pub contract: Checksum,
    /// Bytes of each part, in order.
    pub parts: Vec<u64>,
}

/// First page of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Of which store.
    pub store: StoreId,
    /// Which segment of it.
    pub segment: u32,
    /// Which life of the segment: counts up over the store, whenever a segment is begun.
    pub generation: u64,
    /// Length of every segment file.
    pub segment_bytes: u64,
    /// Bytes that were written to the device over the store's life, when this segment was begun.
    pub wear_bytes: u64,
    /// Name of the node, at most 63 bytes.
    pub owner: String,
}

/// The page before a block's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Which segment this was written to.
    pub segment: u32,
    /// In which of its lives.
    pub generation: u64,
    /// Number of the record in its segment, from 0.
    pub sequence: u32,
    /// Where in the segment this page lies.
    pub page: u32,
    /// Which block.
    pub block: BlockHash,
    /// Checksum of the data, made by its writer.
    pub checksum: Checksum,
    /// What the data is.
    pub space: Space,
}

/// One record, as the footer lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FooterEntry {
    /// Which block.
    pub block: BlockHash,
    /// Page of its record.
    pub page: u32,
    /// Bytes of its data.
    pub bytes: u32,
    /// Checksum of the canonical model key of its contract.
    pub contract: Checksum,
}

/// Last page of a segment that is full: where its table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Which segment.
    pub segment: u32,
    /// In which life.
    pub generation: u64,
    /// Entries of the table, which ends right before this page.
    pub entries: u32,
    /// Checksum of the table.
    pub checksum: u64,
}

/// Pages that hold `bytes`.
#[must_use]
pub const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES as u64)
}

/// Pages of a footer with so many entries, its trailer included.
#[must_use]
pub const fn footer_pages(entries: u64) -> u64 {
    pages(entries * ENTRY_BYTES as u64) + 1
}

impl Space {
    /// Of the blocks of a contract.
    #[must_use]
    pub fn of(contract: &Contract) -> Self {
        let parts = contract.parts.iter().map(|part| part.bytes).collect();
        Self { contract: Checksum::of(&contract.model_key.canonical()), parts }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.parts.iter().sum()
    }
}

impl StoreId {
    fn seed(self) -> u64 {
        let (head, _) = self.0.split_first_chunk().expect("16 bytes begin with 8");
        u64::from_le_bytes(*head)
    }
}

impl SegmentHeader {
    /// As a page.
    #[must_use]
    pub fn encode(&self) -> Page {
        let mut page = [0; PAGE_BYTES];
        put(&mut page, 0, SEGMENT_MAGIC);
        put(&mut page, 8, &self.segment.to_le_bytes());
        put(&mut page, 12, &u32::try_from(self.owner.len()).unwrap_or(0).to_le_bytes());
        put(&mut page, 16, &self.generation.to_le_bytes());
        put(&mut page, 24, &self.segment_bytes.to_le_bytes());
        put(&mut page, 32, &self.store.0);
        put(&mut page, OWNER_AT, self.owner.as_bytes());
        put(&mut page, OWNER_AT + 64, &self.wear_bytes.to_le_bytes());
        seal(&mut page, self.store);
        page
    }

    /// From a page; `None` for anything else.
    #[must_use]
    pub fn decode(page: &Page) -> Option<Self> {
        let store = StoreId(array(page, 32));
        if !is_sealed(page, SEGMENT_MAGIC, store) {
            return None;
        }
        let len = u32_at(page, 12) as usize;
        let owner = page[OWNER_AT..OWNER_AT + 64].get(..len)?;
        Some(Self {
            store,
            segment: u32_at(page, 8),
            generation: u64_at(page, 16),
            segment_bytes: u64_at(page, 24),
            wear_bytes: u64_at(page, OWNER_AT + 64),
            owner: String::from_utf8(owner.to_vec()).ok()?,
        })
    }
}

impl RecordHeader {
    /// Writes it as a page.
    ///
    /// # Panics
    /// With more parts than [`PARTS_MAX`].
    pub fn encode(&self, store: StoreId, page: &mut Page) {
        page.fill(0);
        put(page, 0, RECORD_MAGIC);
        put(page, 8, &self.generation.to_le_bytes());
        put(page, 16, &self.segment.to_le_bytes());
        put(page, 20, &self.sequence.to_le_bytes());
        put(page, 24, &self.page.to_le_bytes());
        put(page, 28, &u32::try_from(self.space.parts.len()).unwrap_or(u32::MAX).to_le_bytes());
        put(page, 32, self.block.as_bytes());
        put(page, 64, &self.space.contract.get().to_le_bytes());
        put(page, 72, &self.space.block_bytes().to_le_bytes());
        put(page, 80, &self.checksum.get().to_le_bytes());
        for (part, bytes) in self.space.parts.iter().enumerate() {
            put(page, PARTS_AT + 8 * part, &bytes.to_le_bytes());
        }
        seal(page, store);
    }

    /// From a page of this store; `None` for anything else.
    #[must_use]
    pub fn decode(page: &Page, store: StoreId) -> Option<Self> {
        let parts = u32_at(page, 28) as usize;
        if !is_sealed(page, RECORD_MAGIC, store) || parts > PARTS_MAX {
            return None;
        }
        let space = Space {
            contract: Checksum::from_u64(u64_at(page, 64)),
            parts: (0..parts).map(|part| u64_at(page, PARTS_AT + 8 * part)).collect(),
        };
        let whole = space.parts.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes));
        if whole != Some(u64_at(page, 72)) {
            return None;
        }
        Some(Self {
            segment: u32_at(page, 16),
            generation: u64_at(page, 8),
            sequence: u32_at(page, 20),
            page: u32_at(page, 24),
            block: BlockHash::from_bytes(array(page, 32)),
            checksum: Checksum::from_u64(u64_at(page, 80)),
            space,
        })
    }

    /// Pages of the record, this one included.
    #[must_use]
    pub fn pages(&self) -> u64 {
        1 + pages(self.space.block_bytes())
    }
}

impl FooterEntry {
    fn encode(&self, into: &mut [u8]) {
        put(into, 0, self.block.as_bytes());
        put(into, 32, &self.page.to_le_bytes());
        put(into, 36, &self.bytes.to_le_bytes());
        put(into, 40, &self.contract.get().to_le_bytes());
    }

    fn decode(from: &[u8]) -> Self {
        Self {
            block: BlockHash::from_bytes(array(from, 0)),
            page: u32_at(from, 32),
            bytes: u32_at(from, 36),
            contract: Checksum::from_u64(u64_at(from, 40)),
        }
    }
}

impl Trailer {
    /// Writes the table and the trailer into whole pages: [`footer_pages`] of them, zeroed.
    ///
    /// # Panics
    /// When `into` has another length.
    pub fn encode(store: StoreId, (segment, generation): (u32, u64), entries: &[FooterEntry], into: &mut [u8]) {
        assert_eq!(into.len() as u64, footer_pages(entries.len() as u64) * PAGE_BYTES as u64, "the footer's own pages");
        let (table, page) = into.split_last_chunk_mut::<PAGE_BYTES>().expect("a footer has a trailer");
        for (entry, bytes) in entries.iter().zip(table.chunks_exact_mut(ENTRY_BYTES)) {
            entry.encode(bytes);
        }
        let entries = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        put(page, 0, TRAILER_MAGIC);
        put(page, 8, &generation.to_le_bytes());
        put(page, 16, &segment.to_le_bytes());
        put(page, 20, &entries.to_le_bytes());
        put(page, 24, &xxh3_64_with_seed(table, store.seed()).to_le_bytes());
        seal(page, store);
    }

    /// From a segment's last page; `None` for anything else.
    #[must_use]
    pub fn decode(page: &Page, store: StoreId) -> Option<Self> {
        is_sealed(page, TRAILER_MAGIC, store).then(|| Self {
            segment: u32_at(page, 16),
            generation: u64_at(page, 8),
            entries: u32_at(page, 20),
            checksum: u64_at(page, 24),
        })
    }

    /// Bytes of the table in a segment of `segment_bytes`; `None` when it cannot be there.
    #[must_use]
    pub fn table(&self, segment_bytes: u64) -> Option<Range<u64>> {
        let end = segment_bytes.checked_sub(PAGE_BYTES as u64)?;
        let len = (footer_pages(u64::from(self.entries)) - 1) * PAGE_BYTES as u64;
        let start = end.checked_sub(len).filter(|start| *start >= PAGE_BYTES as u64)?;
        Some(start..end)
    }

    /// The entries of a table, if it is the one that this trailer is of.
    #[must_use]
    pub fn entries(&self, table: &[u8], store: StoreId) -> Option<Vec<FooterEntry>> {
        let entries = table.chunks_exact(ENTRY_BYTES).take(self.entries as usize).map(FooterEntry::decode);
        (xxh3_64_with_seed(table, store.seed()) == self.checksum).then(|| entries.collect())
    }
}

fn seal(page: &mut Page, store: StoreId) {
    let checksum = xxh3_64_with_seed(&page[..CHECKSUM_AT], store.seed());
    put(page, CHECKSUM_AT, &checksum.to_le_bytes());
}

fn is_sealed(page: &Page, magic: &[u8; 8], store: StoreId) -> bool {
    page.starts_with(magic) && u64_at(page, CHECKSUM_AT) == xxh3_64_with_seed(&page[..CHECKSUM_AT], store.seed())
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    *from[at..].first_chunk().expect("a constant place in a page")
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(from, at))
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(from, at))
}
