//! The boot counter: how the fleet tells this life of the daemon from the ones before.
//!
//! One small file, replaced atomically and synced before the number is used, so that no two lives ever share one. A lock
//! beside it keeps a second daemon from running on the same state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use weft_types::Incarnation;

/// This life's number, and the lock on the state directory for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) incarnation: Incarnation,
    _lock: File,
}

/// Why the boot counter could not be raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Another daemon runs on it.
    #[error("{directory} is in use by another node daemon: stop it, or give this one a state_dir of its own", directory = .directory.display())]
    InUse {
        /// Which state directory.
        directory: PathBuf,
    },
    /// The file holds no number.
    #[error("{path} holds '{content}' where a boot counter was expected: restore it, or start under a new name", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Its content, cut short.
        content: String,
    },
    /// The file system said no.
    #[error("cannot {operation} in {directory}", directory = .directory.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// In which state directory.
        directory: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Boot {
    /// Raises the counter by one, from 1.
    pub(crate) fn next(directory: &Path) -> Result<Self, BootError> {
        let failed = |operation| move |source| BootError::Io { operation, directory: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed("make the state directory"))?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(directory.join("lock"));
        let lock = lock.map_err(failed("open the lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| BootError::InUse { directory: directory.to_owned() })?;

        let path = directory.join("boots");
        let last = match fs::read_to_string(&path) {
            Ok(content) => content
                .trim()
                .parse::<u64>()
                .map_err(|_| BootError::Damaged { path: path.clone(), content: content.chars().take(40).collect() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed("read the boot counter")(error)),
        };
        let incarnation = Incarnation::new(last).next();
        replace(directory, &path, &format!("{incarnation}\n")).map_err(failed("write the boot counter"))?;
        Ok(Self { incarnation, _lock: lock })
    }
}

/// Writes a file so that after a crash it holds either the old content or the new.
fn replace(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_has_a_higher_number_and_the_directory_to_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = Boot::next(&path).unwrap();
        assert_eq!(first.incarnation, Incarnation::new(1));
        assert!(matches!(Boot::next(&path), Err(BootError::InUse { .. })));
        drop(first);
        assert_eq!(Boot::next(&path).unwrap().incarnation, Incarnation::new(2));
        fs::write(path.join("boots"), "two").unwrap();
        assert!(matches!(Boot::next(&path), Err(BootError::Damaged { .. })));
    }
}
