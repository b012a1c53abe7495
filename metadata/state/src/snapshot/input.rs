//! A snapshot as it comes: summed up as it is read, with no more of it in memory than the part at hand.

use std::io::{self, Read};

use weft_index::layout::Reader;
use weft_types::{Checksum, RunningChecksum};

use super::SnapshotError;

/// The largest part that is read on the snapshot's word: more than the roster's descriptions and all accounts take.
const PART_BYTES_MAX: usize = 1 << 30;

/// Bytes of a part that are asked for at a time, so that one that lies about its length takes no memory for it.
const STEP_BYTES: usize = 1 << 20;

pub(super) struct Input<R> {
    from: R,
    sum: RunningChecksum,
    part: Vec<u8>,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, sum: RunningChecksum::new(), part: Vec::new() }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(error)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&[u8], SnapshotError> {
        self.part.clear();
        self.more(count)?;
        Ok(&self.part)
    }

    /// The bytes of the next run.
    pub(super) fn run(&mut self) -> Result<Reader<'_>, SnapshotError> {
        let [holders @ .., low, high] = self.array::<4>()?;
        let (holders, blocks) = (u16::from_le_bytes(holders), u16::from_le_bytes([low, high]));
        self.part.clear();
        self.part.extend_from_slice(&holders.to_le_bytes());
        self.part.extend_from_slice(&blocks.to_le_bytes());
        self.more(2 * usize::from(holders) + 16 * usize::from(blocks))?;
        Ok(Reader::new(&self.part, "run of a directory snapshot"))
    }

    fn more(&mut self, count: usize) -> Result<(), SnapshotError> {
        if count > PART_BYTES_MAX {
            return Err(SnapshotError::Inconsistent("a part of it would be longer than any may be"));
        }
        let end = self.part.len() + count;
        while self.part.len() < end {
            let begin = self.part.len();
            self.part.resize(end.min(begin + STEP_BYTES), 0);
            self.from.read_exact(&mut self.part[begin..]).map_err(error)?;
            self.sum.update(&self.part[begin..]);
        }
        Ok(())
    }

    /// Compares the checksum at the end, which comes now, and sees to it that nothing follows.
    pub(super) fn finish(mut self) -> Result<(), SnapshotError> {
        let got = self.sum.finish();
        let mut sum = [0; size_of::<u64>()];
        self.from.read_exact(&mut sum).map_err(error)?;
        compare(sum, got)?;
        match self.from.read(&mut [0]).map_err(error)? {
            0 => Ok(()),
            _ => Err(SnapshotError::Inconsistent("bytes follow its checksum")),
        }
    }

    /// Reads on to the end, and compares the checksum there.
    pub(super) fn drain(mut self) -> Result<(), SnapshotError> {
        const SUM_BYTES: usize = size_of::<u64>();
        let mut kept = Vec::new();
        loop {
            let mut piece = Vec::with_capacity(STEP_BYTES);
            self.from.by_ref().take(STEP_BYTES as u64).read_to_end(&mut piece).map_err(error)?;
            let ends = piece.is_empty();
            kept.append(&mut piece);
            let known = kept.len().saturating_sub(SUM_BYTES);
            self.sum.update(&kept[..known]);
            kept.drain(..known);
            if ends {
                break;
            }
        }
        match kept.first_chunk() {
            Some(sum) => compare(*sum, self.sum.finish()),
            None => Err(SnapshotError::Inconsistent("it ends before its checksum")),
        }
    }
}

fn compare(written: [u8; 8], got: Checksum) -> Result<(), SnapshotError> {
    let expected = Checksum::from_u64(u64::from_le_bytes(written));
    match expected == got {
        true => Ok(()),
        false => Err(SnapshotError::Checksum { expected, got }),
    }
}

fn error(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Inconsistent("it ends too early"),
        _ => SnapshotError::Read(error),
    }
}
