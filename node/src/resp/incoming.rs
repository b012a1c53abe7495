//! The value of a `SET` as it arrives: part after part goes into its slot, and the head last, so that nobody finds a value that
//! is not whole.

use weft_store::PinnedBlock;
use weft_types::BlockHash;

use super::head::{Head, INSIDE_MAX};
use super::values::{Names, NotSet, Values};

/// Why a value is not taken. The rest of it is passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Longer than any that is taken.
    TooLong,
    /// Every slot is in use.
    Full,
    /// Somebody else is writing the key.
    Busy,
}

/// A value on its way.
#[derive(Debug)]
pub(super) struct Incoming {
    head: BlockHash,
    bytes: u64,
    /// What has come of the part that is filled, or of a value that lies in its head. It grows as the bytes come: a length
    /// that was only announced costs nothing.
    filling: Vec<u8>,
    parts: Vec<BlockHash>,
    /// Those parts stay until the head names them.
    pins: Vec<PinnedBlock>,
    refused: Option<Refusal>,
}

impl Incoming {
    /// A value of so many bytes.
    pub(super) fn new(values: &Values, head: BlockHash, bytes: u64) -> Self {
        let refused = (bytes > values.value_bytes_max().max(INSIDE_MAX)).then_some(Refusal::TooLong);
        Self { head, bytes, filling: Vec::new(), parts: Vec::new(), pins: Vec::new(), refused }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, values: &Values, names: &Names, mut chunk: &[u8]) {
        let whole = if self.bytes <= INSIDE_MAX { INSIDE_MAX } else { values.part_bytes() };
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        while !chunk.is_empty() && self.refused.is_none() {
            let (here, rest) = chunk.split_at(chunk.len().min(whole - self.filling.len()));
            self.filling.extend_from_slice(here);
            chunk = rest;
            if self.filling.len() == whole && self.bytes > INSIDE_MAX {
                self.put_part(values, names);
            }
        }
    }

    /// All of it has come.
    pub(super) fn finish(mut self, values: &Values, names: &Names) -> Result<(), Refusal> {
        let inside = self.bytes <= INSIDE_MAX;
        if !inside && !self.filling.is_empty() && self.refused.is_none() {
            self.put_part(values, names);
        }
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        let block = match inside {
            true => Head::encode_inside(&self.filling),
            false => Head { bytes: self.bytes, parts: std::mem::take(&mut self.parts) }.encode(),
        };
        values.put_head(&self.head, &block).map_err(|error| match error {
            NotSet::Full => Refusal::Full,
            NotSet::Busy => Refusal::Busy,
        })
    }

    fn put_part(&mut self, values: &Values, names: &Names) {
        match values.put_part(names, &self.filling) {
            Ok((name, pin)) => {
                self.parts.push(name);
                self.pins.extend(pin);
                self.filling.clear();
            }
            Err(_) => {
                self.refused = Some(Refusal::Full);
                self.filling = Vec::new();
            }
        }
    }
}
