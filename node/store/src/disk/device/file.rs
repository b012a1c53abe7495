//! Segments as files of one directory, past the page cache where the file system allows it.
//!
//! Direct I/O is probed with the same kind of access that the tier makes; a file system without it (or a kernel that says
//! yes and then fails) is used through its page cache, which the log says once. Calls block the thread that makes them: the
//! number of threads is the depth of the queue.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use parking_lot::RwLock;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, fallocate, fdatasync, flock, ftruncate, open};
use rustix::io::{Errno, pread, preadv, pwrite, pwritev};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Device;
use crate::disk::format::PAGE_BYTES;
use crate::disk::pages::PageBuffer;

const PREFIX: &str = "segment-";

/// Buffers in one call: the kernel's `IOV_MAX`.
const BUFFERS_MAX: usize = 1024;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileDeviceError {
    /// Another process has it.
    #[error("{directory} is in use by another process: give each node a disk folder of its own", directory = .directory.display())]
    InUse {
        /// Which.
        directory: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {operation} in {directory}: {source}", directory = .directory.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// Where.
        directory: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Files named `segment-<number>`, eight decimal digits, in a directory that no other process uses meanwhile.
#[derive(Debug)]
pub struct FileDevice {
    directory: PathBuf,
    direct: bool,
    open: RwLock<HashMap<u32, Arc<OwnedFd>>>,
    _lock: File,
}

impl FileDevice {
    /// Opens a directory, made if it is missing, and every segment in it.
    ///
    /// # Errors
    /// It cannot be made, is in use, or takes no file.
    pub fn open(directory: &Path) -> Result<Self, FileDeviceError> {
        let failed = |operation| move |source| FileDeviceError::Io { operation, directory: directory.into(), source };
        fs::create_dir_all(directory).map_err(failed("make the folder"))?;
        let lock = File::create(directory.join("lock")).map_err(failed("open the lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| FileDeviceError::InUse { directory: directory.into() })?;
        let direct = probe(&directory.join("probe")).map_err(failed("write a file"))?;
        match direct {
            true => tracing::info!(directory = %directory.display(), "disk tier: direct I/O, one call a thread"),
            false => tracing::warn!(
                directory = %directory.display(),
                "disk tier: the file system takes no direct I/O: blocks go through the page cache, which costs memory"
            ),
        }
        let device = Self { directory: directory.into(), direct, open: RwLock::default(), _lock: lock };
        for segment in device.listed().map_err(failed("list segments"))? {
            let file = device.file(segment, OFlags::empty()).map_err(failed("open a segment"))?;
            device.open.write().insert(segment, Arc::new(file));
        }
        Ok(device)
    }

    fn listed(&self) -> io::Result<Vec<u32>> {
        let number = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()).transpose()
        };
        fs::read_dir(&self.directory)?.filter_map(number).collect()
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.directory.join(format!("{PREFIX}{segment:08}"))
    }

    fn file(&self, segment: u32, more: OFlags) -> io::Result<OwnedFd> {
        let direct = if self.direct { OFlags::DIRECT } else { OFlags::empty() };
        let flags = OFlags::RDWR | OFlags::CLOEXEC | direct | more;
        Ok(open(self.path(segment), flags, Mode::RUSR | Mode::WUSR)?)
    }

    fn opened(&self, segment: u32) -> io::Result<Arc<OwnedFd>> {
        self.open.read().get(&segment).cloned().ok_or_else(|| Errno::NOENT.into())
    }
}

impl Device for FileDevice {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(self.open.read().keys().copied().collect())
    }

    fn create(&self, segment: u32, bytes: u64) -> io::Result<()> {
        let file = self.file(segment, OFlags::CREATE)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // A file system that cannot set space aside: it comes with the writes.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => ftruncate(&file, bytes)?,
            Err(error) => {
                // Whatever it got is given back: this segment will not be.
                drop(fs::remove_file(self.path(segment)));
                return Err(error.into());
            }
            Ok(()) => {}
        }
        File::open(&self.directory)?.sync_all()?;
        self.open.write().insert(segment, Arc::new(file));
        Ok(())
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        self.open.write().remove(&segment);
        fs::remove_file(self.path(segment))
    }

    fn bytes(&self, segment: u32) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&*self.opened(segment)?)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read(&self, segment: u32, mut offset: u64, mut into: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let file = self.opened(segment)?;
        while !into.is_empty() {
            let now = into.len().min(BUFFERS_MAX);
            match preadv(&file, &mut into[..now], offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    offset += bytes as u64;
                    IoSliceMut::advance_slices(&mut into, bytes);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write(&self, segment: u32, mut offset: u64, mut from: &mut [IoSlice<'_>]) -> io::Result<()> {
        let file = self.opened(segment)?;
        while !from.is_empty() {
            match pwritev(&file, &from[..from.len().min(BUFFERS_MAX)], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    offset += bytes as u64;
                    IoSlice::advance_slices(&mut from, bytes);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self, segment: u32) -> io::Result<()> {
        Ok(fdatasync(&*self.opened(segment)?)?)
    }

    fn is_direct(&self) -> bool {
        self.direct
    }
}

/// Whether a page written with direct I/O reads back; an error when not even an ordinary file can be written.
fn probe(path: &Path) -> io::Result<bool> {
    let mut page = PageBuffer::new(PAGE_BYTES);
    page.bytes_mut().fill(0xa5);
    let outcome = (|| {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        drop(open(path, flags, Mode::RUSR | Mode::WUSR)?);
        let direct = || -> Result<bool, Errno> {
            let file = open(path, flags | OFlags::DIRECT, Mode::RUSR | Mode::WUSR)?;
            let mut back = PageBuffer::new(PAGE_BYTES);
            let written = pwrite(&file, page.bytes(), 0)?;
            let read = pread(&file, back.bytes_mut(), 0)?;
            Ok(written == PAGE_BYTES && read == PAGE_BYTES && back.bytes() == page.bytes())
        };
        Ok(direct().unwrap_or(false))
    })();
    drop(fs::remove_file(path));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_from_a_directory_that_one_process_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let device = FileDevice::open(&path).unwrap();
        assert!(matches!(FileDevice::open(&path), Err(FileDeviceError::InUse { .. })));
        device.create(3, 1 << 20).unwrap();
        assert_eq!(device.bytes(3).unwrap(), 1 << 20);
        let mut pages = PageBuffer::new(3 * PAGE_BYTES);
        pages.pages_mut().iter_mut().zip(1..).for_each(|(page, byte)| page.fill(byte));
        let (first, rest) = pages.bytes().split_at(PAGE_BYTES);
        device.write(3, PAGE_BYTES as u64, &mut [IoSlice::new(first), IoSlice::new(rest)]).unwrap();
        device.sync(3).unwrap();
        drop(device);

        let device = FileDevice::open(&path).unwrap();
        assert_eq!(device.segments().unwrap(), [3]);
        let mut back = PageBuffer::new(3 * PAGE_BYTES);
        device.read(3, PAGE_BYTES as u64, &mut [IoSliceMut::new(back.bytes_mut())]).unwrap();
        assert_eq!(back.bytes(), pages.bytes());
        let end = device.read(3, (1 << 20) - PAGE_BYTES as u64, &mut [IoSliceMut::new(back.bytes_mut())]);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        device.remove(3).unwrap();
        assert!(device.segments().unwrap().is_empty() && device.bytes(3).is_err());
    }
}
