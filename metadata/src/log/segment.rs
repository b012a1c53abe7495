//! A segment: one preallocated file of consecutive records.
//!
//! ```text
//! offset  size
//!      0     8  magic "WEFTLOG2"; the digit is the version of the layout
//!      8     8  number of the segment, from 1
//!     16     8  number of the first batch in it
//!     24     4  zero
//!     28     4  CRC-32C of the 28 bytes before
//!     32     …  records (see `record`), then zeros up to the preallocated length
//! ```
//! A segment is made under a temporary name and gets its own once its header is durable, so that one with a bad header
//! is always damage and never the trace of a crash.

use std::io;
use std::sync::Arc;

use crate::volume::{Volume, VolumeFile, temporary_name};

const MAGIC: &[u8; 8] = b"WEFTLOG2";
/// Bytes in front of the first record.
pub(crate) const HEADER_BYTES: usize = 32;
const PREFIX: &str = "log-";

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
    let parse = |name: &String| u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(parse).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl Segment {
    /// A new, empty one; durable, name and all, when this returns.
    pub(crate) fn create(volume: &dyn Volume, number: u64, first_batch: u64, len: u64) -> io::Result<Self> {
        let name = name(number);
        let temporary = temporary_name(&name);
        let file = volume.create(&temporary, len)?;
        file.write_at(0, &header(number, first_batch))?;
        file.sync()?;
        volume.rename(&temporary, &name)?;
        volume.sync()?;
        Ok(Self { number, file, len, end: HEADER_BYTES as u64, index_max: None })
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> u64 {
        self.len - self.end
    }

    /// Notes that an entry is in it.
    pub(crate) fn covers(&mut self, index: u64) {
        self.index_max = self.index_max.max(Some(index));
    }
}

fn header(number: u64, first_batch: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&first_batch.to_le_bytes());
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
            "it is of format {format}, and this release reads WEFTLOG2: run the release that wrote it"
        ));
    }
    if found != header(number, batch) {
        return Err(format!("the segment header is not that of segment {number}"));
    }
    Ok(batch)
}
