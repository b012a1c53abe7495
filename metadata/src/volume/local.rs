//! A real directory, locked against a second process for as long as it is open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::{Volume, VolumeFile};

/// File whose lock says that a process uses the directory.
const LOCK_NAME: &str = "lock";

/// How long a starting process waits for its predecessor to let go: longer than a drain takes, shorter than a supervisor's
/// patience.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Between two looks; a lock has no other way to wait for a while only.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A directory on a local file system.
#[derive(Debug)]
pub(crate) struct LocalVolume {
    path: PathBuf,
    /// For `fsync` of the names in it.
    directory: File,
    /// Held until dropped.
    _lock: File,
}

#[derive(Debug)]
struct LocalFile(File);

impl LocalVolume {
    /// Opens the directory, made if it is not there, and locks it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, LOCK_WAIT)
    }

    fn open_within(path: &Path, wait: Duration) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_NAME))?;
        take(&lock, wait)?;
        let directory = File::open(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), directory, _lock: lock })
    }
}

impl Volume for LocalVolume {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn VolumeFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        set_aside(&file, len)?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn VolumeFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn locate(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

impl VolumeFile for LocalFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // The length was set, and synced with the name, when the file was made: data is all that changes later.
        self.0.sync_data()
    }
}

/// Takes the lock; the process that has it may be on its way out.
fn take(lock: &File, wait: Duration) -> io::Result<()> {
    let until = Instant::now() + wait;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = "in use by another process: stop it, or give this member a data directory of its own";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            other => return other.map_err(Into::into),
        }
    }
}

/// Gives the file its length, with blocks behind it where the file system can: a later write then neither extends the
/// file (a journal commit more per sync) nor finds the disk full.
fn set_aside(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_serves_one_at_a_time_and_the_next_once_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let first = LocalVolume::open(folder.path()).unwrap();
        let error = LocalVolume::open_within(folder.path(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("in use by another process"), "{error}");
        let waiting = std::thread::spawn({
            let path = folder.path().to_owned();
            move || LocalVolume::open(&path)
        });
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_set_aside_reads_as_zero() {
        let folder = tempfile::tempdir().unwrap();
        let volume = LocalVolume::open(folder.path()).unwrap();
        let file = volume.create("f", 8192).unwrap();
        file.write_at(4000, &[7; 200]).unwrap();
        let mut bytes = vec![1; 8192];
        volume.open("f").unwrap().read_at(0, &mut bytes).unwrap();
        let expected = |at: usize| if (4000..4200).contains(&at) { 7 } else { 0 };
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
    }
}
