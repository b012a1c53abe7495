//! The limit: the same bytes appended and synced three times, one after the other, by one thread and nothing else.
//!
//! Files are made as the log makes its segments: set aside whole, synced with their name, and replaced when full.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

use crate::bench::latencies::Latencies;
use crate::bench::members::MEMBERS;

/// As the log's segments are by default.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Three files on the device of the members' data.
pub(crate) struct Disk {
    folder: PathBuf,
    files: Vec<Appended>,
}

struct Appended {
    file: File,
    end: u64,
}

/// What the device did.
pub(crate) struct Synced {
    /// Bytes a second, each written and synced three times.
    pub(crate) bytes_per_s: f64,
    /// Of each write and its sync.
    pub(crate) times: Latencies,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("limit");
        fs::create_dir(&folder)?;
        let files = (0..MEMBERS).map(|copy| segment(&folder, copy)).collect::<Result<_, _>>()?;
        Ok(Self { folder, files })
    }

    /// Appends and syncs batches of `batch_bytes` for so long.
    pub(crate) fn sync(&mut self, batch_bytes: usize, time: Duration) -> anyhow::Result<Synced> {
        let batch: Vec<u8> = (0..batch_bytes).map(|byte| (byte % 251) as u8).collect();
        let (began, mut bytes, mut times) = (Instant::now(), 0, Latencies::default());
        while began.elapsed() < time {
            for (copy, appended) in self.files.iter_mut().enumerate() {
                if appended.end + batch_bytes as u64 > SEGMENT_BYTES {
                    *appended = segment(&self.folder, copy)?;
                }
                let write = Instant::now();
                appended.file.write_all_at(&batch, appended.end)?;
                appended.file.sync_data()?;
                appended.end += batch_bytes as u64;
                times.add(write.elapsed());
            }
            bytes += batch_bytes;
        }
        Ok(Synced { bytes_per_s: bytes as f64 / began.elapsed().as_secs_f64(), times })
    }
}

fn segment(folder: &Path, copy: usize) -> anyhow::Result<Appended> {
    let (partial, path) = (folder.join(format!("{copy}.new")), folder.join(copy.to_string()));
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&partial)?;
    fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()?;
    Ok(Appended { file, end: 0 })
}
