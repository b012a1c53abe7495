//! Pieces of a snapshot's blocks.

use weft_index::Run;
use weft_index::layout::{self, Reader};
use weft_types::codec::DecodeError;

/// Runs of blocks with their holders, kept as their bytes (`weft_index::layout`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockList {
    count: u32,
    bytes: Vec<u8>,
}

impl BlockList {
    /// A list is full from this size on: some 16,000 blocks, a millisecond's work for a follower.
    pub const BYTES_MAX: usize = 256 << 10;

    /// Appends a run.
    pub fn push(&mut self, run: &Run) {
        layout::write_run(&mut self.bytes, &run.holders, &run.keys);
        self.count += 1;
    }

    /// Cuts runs into lists of bounded size.
    pub fn pieces(runs: impl Iterator<Item = Run>) -> impl Iterator<Item = Self> {
        let mut runs = runs.fuse();
        std::iter::from_fn(move || {
            let mut list = Self::default();
            while list.bytes.len() < Self::BYTES_MAX {
                let Some(run) = runs.next() else {
                    break;
                };
                list.push(&run);
            }
            (list.count > 0).then_some(list)
        })
    }

    /// Runs in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut reader = Reader::new(&self.bytes, "BlockList");
        (0..self.count).map(move |_| layout::read_run(&mut reader).expect("a list is checked when it is decoded"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn decode(count: u32, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "BlockList");
        for _ in 0..count {
            layout::read_run(&mut reader)?;
        }
        reader.finish()?;
        Ok(Self { count, bytes: bytes.to_vec() })
    }
}
