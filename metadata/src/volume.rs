//! Where a member keeps its files: one flat directory, reached through a seam so that the crash tests can lose what was
//! not synced, tear a write and flip a bit.
//!
//! Contract every implementation keeps, and all that the log, the vote and the snapshots rely on:
//! - bytes are durable once [`VolumeFile::sync`] returned, names once [`Volume::sync`] did; anything newer may be there,
//!   gone, or there in part, at a grain of [`SECTOR_BYTES`];
//! - what was never written inside a created length reads as zero.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod crash;
mod local;
mod stream;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub(crate) use local::LocalVolume;
pub(crate) use stream::{FileReader, FileWriter};

/// Smallest unit that a device writes whole: 512 bytes, the smallest logical block of any disk in use. Larger ones are
/// multiples of it.
pub(crate) const SECTOR_BYTES: usize = 512;

/// A directory of files.
pub(crate) trait Volume: Debug + Send + Sync + 'static {
    /// Every file name, in no order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new file of `len` zero bytes with its space set aside; an old one of that name is emptied first.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn VolumeFile>>;
    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn VolumeFile>>;
    /// Renames, replacing what had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name; whoever has the file open may go on reading.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes every creation, renaming and removal durable.
    fn sync(&self) -> io::Result<()>;
    /// The file's place, as an operator would type it.
    fn locate(&self, name: &str) -> String;
}

/// One file, shared by whoever reads it.
pub(crate) trait VolumeFile: Debug + Send + Sync + 'static {
    /// Its length, written or set aside.
    fn len(&self) -> io::Result<u64>;
    /// Fills the buffer from `offset` on, or fails.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all of it at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes every write durable.
    fn sync(&self) -> io::Result<()>;
}

/// The whole of a small file.
pub(crate) fn read_whole(volume: &dyn Volume, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = volume.open(name)?;
    let len = file.len()?;
    if len > bytes_max {
        let text = format!("{} has {len} bytes: at most {bytes_max} expected", volume.locate(name));
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Offset of the first sector of a file that cannot be read, once reading all of it has failed.
pub(crate) fn first_unreadable(file: &dyn VolumeFile, len: u64) -> u64 {
    let mut sector = [0; SECTOR_BYTES];
    let reads = |offset: u64, sector: &mut [u8; SECTOR_BYTES]| {
        let left = usize::try_from(len - offset).unwrap_or(SECTOR_BYTES).min(SECTOR_BYTES);
        file.read_at(offset, &mut sector[..left]).is_ok()
    };
    (0..len).step_by(SECTOR_BYTES).find(|offset| !reads(*offset, &mut sector)).unwrap_or(0)
}

/// Replaces a file whole: after a crash it has either the old bytes or the new ones.
pub(crate) fn replace_whole(volume: &dyn Volume, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(name);
    let file = volume.create(&temporary, bytes.len() as u64)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    volume.rename(&temporary, name)?;
    volume.sync()
}

/// Name under which a file is written before it takes its own.
pub(crate) fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY_SUFFIX}")
}

/// What a crash left half-made ends in this, and is removed at start.
pub(crate) const TEMPORARY_SUFFIX: &str = ".new";

/// Removes what a crash left half-made.
pub(crate) fn remove_temporaries(volume: &dyn Volume) -> io::Result<()> {
    for name in volume.names()?.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        volume.remove(name)?;
    }
    Ok(())
}
