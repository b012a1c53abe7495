//! A segment: one preallocated file of consecutive records.
//!
//! ```text
//! offset  size
//!      0     8  magic "WEFTLOG3"; the digit is the version of the layout
//!      8     8  number of the segment, from 1
//!     16     8  number of the first batch in it
//!     24     4  length of the file in units of 8 bytes
//!     28     4  CRC-32C of the 28 bytes before
//!     32     …  records (see `record`), then zeros up to that length
//! ```
//! A segment is made under a temporary name and gets its own once its header is durable, so that one with a bad header
//! is always damage and never the trace of a crash. Before anything is written into it, the one before it says in its last
//! record that the log goes on: so a segment that is missing at the end is missed.

use std::io;
use std::sync::Arc;

use super::record;
use crate::volume::{Volume, VolumeFile, temporary_name};

const MAGIC: &[u8; 8] = b"WEFTLOG3";
/// Bytes in front of the first record.
pub(crate) const HEADER_BYTES: usize = 32;
const PREFIX: &str = "log-";
/// In which the length is written.
const LEN_UNIT: u64 = 8;

/// A segment and how far it is written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn VolumeFile>,
    /// Preallocated length.
    pub(crate) len: u64,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// Highest index of any entry in it, dropped ones included.
    pub(crate) index_max: Option<u64>,
}

/// File name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// Numbers of the segments in the volume, in order.
pub(crate) fn numbers(volume: &dyn Volume) -> io::Result<Vec<u64>> {
    let names = volume.names()?;
    let parse = |found: &String| {
        let number = u64::from_str_radix(found.strip_prefix(PREFIX)?, 16).ok()?;
        // Nothing else is how a segment is called, in capitals say.
        (*found == name(number)).then_some(number)
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(parse).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl Segment {
    /// A new, empty one of `len` bytes or, where an entry needs more, with room for `bytes`; durable, name and all, when this
    /// returns.
    pub(crate) fn create(
        volume: &dyn Volume,
        number: u64,
        first_batch: u64,
        len: u64,
        bytes: usize,
    ) -> io::Result<Self> {
        let needed = (HEADER_BYTES + bytes + record::CONTINUED_BYTES) as u64;
        let units = u32::try_from(len.max(needed).div_ceil(LEN_UNIT)).map_err(io::Error::other)?;
        let len = u64::from(units) * LEN_UNIT;
        let name = name(number);
        let temporary = temporary_name(&name);
        let file = volume.create(&temporary, len)?;
        file.write_at(0, &header(number, first_batch, units))?;
        file.sync()?;
        volume.rename(&temporary, &name)?;
        volume.sync()?;
        Ok(Self { number, file, len, end: HEADER_BYTES as u64, index_max: None })
    }

    /// Bytes that still fit, beside the record that says where the log goes on.
    pub(crate) fn room(&self) -> u64 {
        self.len.saturating_sub(self.end + record::CONTINUED_BYTES as u64)
    }

    /// Makes durable that batch `batch` is in the next segment, which exists.
    pub(crate) fn continue_with(&mut self, batch: u64) -> io::Result<()> {
        let record = record::continued(batch, self.number + 1);
        self.file.write_at(self.end, &record)?;
        self.file.sync()?;
        self.end += record.len() as u64;
        Ok(())
    }

    /// Notes that an entry is in it.
    pub(crate) fn covers(&mut self, index: u64) {
        self.index_max = self.index_max.max(Some(index));
    }
}

fn header(number: u64, first_batch: u64, units: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&first_batch.to_le_bytes());
    header[24..28].copy_from_slice(&units.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Number of the first batch of a segment whose header is right.
pub(crate) fn check_header(bytes: &[u8], number: u64) -> Result<u64, String> {
    let Some(found) = bytes.get(..HEADER_BYTES) else {
        return Err("the file is shorter than a segment header".to_owned());
    };
    let batch = u64::from_le_bytes(found[16..24].try_into().expect("eight bytes were sliced"));
    if found[..7] == MAGIC[..7] && found[..8] != MAGIC[..] {
        let format = String::from_utf8_lossy(&found[..8]);
        return Err(format!(
            "it is of format {format}, and this release reads WEFTLOG3: run the release that wrote it"
        ));
    }
    let units = u32::from_le_bytes(found[24..28].try_into().expect("four bytes were sliced"));
    if found != header(number, batch, units) {
        return Err(format!("the segment header is not that of segment {number}"));
    }
    let (len, expected) = (bytes.len() as u64, u64::from(units) * LEN_UNIT);
    if len != expected {
        return Err(format!("the file has {len} bytes, and was made with {expected}"));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let golden = concat!(
            "574546544c4f4733", // WEFTLOG3
            "0200000000000000", // segment 2
            "0700000000000000", // its first batch is 7
            "00000200",         // 131,072 times 8 bytes: 1 MiB
        );
        let bytes: String = header(2, 7, 131_072)[..28].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes, golden);
    }
}
