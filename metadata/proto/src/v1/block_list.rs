//! Pieces of a snapshot's blocks.

use weft_index::Holders;
use weft_index::layout::{self, Reader};
use weft_types::codec::DecodeError;
use weft_types::{HolderId, IndexKey};

/// A run of blocks with their holders, kept as its bytes (`weft_index::layout`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockList {
    count: u32,
    bytes: Vec<u8>,
}

impl BlockList {
    /// A list is full from this size on: some 13,000 blocks with one holder, a few milliseconds' work for a follower.
    pub const BYTES_MAX: usize = 256 << 10;

    /// Appends a block. `holders`: ascending, at least one.
    pub fn push(&mut self, key: IndexKey, holders: impl Iterator<Item = HolderId>) {
        layout::write_block(&mut self.bytes, key, holders);
        self.count += 1;
    }

    /// Cuts blocks into lists of bounded size.
    pub fn pieces<'a>(blocks: impl Iterator<Item = (IndexKey, Holders<'a>)>) -> impl Iterator<Item = Self> {
        let mut blocks = blocks.fuse();
        std::iter::from_fn(move || {
            let mut list = Self::default();
            while list.bytes.len() < Self::BYTES_MAX {
                let Some((key, holders)) = blocks.next() else {
                    break;
                };
                list.push(key, holders.iter());
            }
            (list.count > 0).then_some(list)
        })
    }

    /// Blocks in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Gives each block and each of its holders to `each`.
    pub fn for_each(&self, mut each: impl FnMut(IndexKey, HolderId)) {
        let mut reader = Reader::new(&self.bytes, "BlockList");
        for _ in 0..self.count {
            layout::read_block(&mut reader, &mut each).expect("a list is checked when it is decoded");
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn decode(count: u32, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "BlockList");
        for _ in 0..count {
            layout::read_block(&mut reader, |_, _| ())?;
        }
        reader.finish()?;
        Ok(Self { count, bytes: bytes.to_vec() })
    }
}
