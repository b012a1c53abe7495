//! A member's files: how long one sequential read of them takes, and how to make the kernel forget them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{Advice, fadvise};

/// Bytes of one read.
const PIECE: usize = 1 << 20;

/// Files of a folder, in order of name.
pub(crate) struct Files(Vec<(PathBuf, u64)>);

impl Files {
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((entry.path(), metadata.len()));
            }
        }
        files.sort();
        Ok(Self(files))
    }

    /// Bytes of those whose names begin so.
    pub(crate) fn bytes_of(&self, prefix: &str) -> u64 {
        let named = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        self.0.iter().filter(|(path, _)| named(path)).map(|(_, bytes)| bytes).sum()
    }

    /// Reads them once.
    pub(crate) fn read(&self) -> anyhow::Result<Duration> {
        let (mut piece, began) = (vec![0; PIECE], Instant::now());
        for (path, _) in &self.0 {
            let mut file = File::open(path)?;
            while file.read(&mut piece)? > 0 {}
        }
        Ok(began.elapsed())
    }

    /// Makes the kernel drop what it has of them in memory; what is not on the device yet is written first.
    pub(crate) fn evict(&self) -> anyhow::Result<()> {
        for (path, _) in &self.0 {
            let file = File::open(path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_name_and_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("log-1", 3), ("log-2", 4), ("snapshot-1", 5)] {
            fs::write(folder.path().join(name), vec![1; bytes]).unwrap();
        }
        fs::create_dir(folder.path().join("log-folder")).unwrap();
        let files = Files::of(folder.path()).unwrap();
        assert_eq!((files.bytes_of("log-"), files.bytes_of("snapshot-"), files.bytes_of("")), (7, 5, 12));
        files.evict().unwrap();
        files.read().unwrap();
    }
}
