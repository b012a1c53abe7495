//! A volume in memory that can lose power: what was synced stays, and of the rest each sector and each name is there or not,
//! as a seed decides. It can also lie about syncing, to show that the tests notice.

#[cfg(test)]
pub(crate) mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::Rng;

use super::{SECTOR_BYTES, Volume, VolumeFile};

#[derive(Debug, Default)]
pub(crate) struct CrashVolume {
    names: Mutex<Names>,
    power: Arc<Power>,
}

#[derive(Debug, Default)]
struct Names {
    durable: BTreeMap<String, Arc<CrashFile>>,
    current: BTreeMap<String, Arc<CrashFile>>,
    /// Not yet synced, in order.
    pending: Vec<Change>,
}

/// Each is durable whole or not at all.
#[derive(Debug, Clone)]
enum Change {
    Put(String, Arc<CrashFile>),
    Rename { from: String, to: String, file: Arc<CrashFile> },
    Remove(String),
}

/// When the power goes.
#[derive(Debug, Default)]
struct Power {
    /// Operations left; `None`: for ever.
    left: Mutex<Option<u32>>,
    lying: Mutex<bool>,
    /// Writes so far.
    writes: AtomicU64,
}

#[derive(Debug)]
struct CrashFile {
    content: Mutex<Content>,
    power: Arc<Power>,
}

#[derive(Debug, Default)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Of each sector that was written: by which write last, and what it held before that.
    #[cfg(test)]
    before: BTreeMap<usize, (u64, Vec<u8>)>,
    /// A sector that is not given back.
    #[cfg(test)]
    unreadable: Option<usize>,
}

impl CrashVolume {
    /// The power goes during the operation after `operations` more.
    pub(crate) fn cut_power_after(&self, operations: u32) {
        *self.power.left.lock() = Some(operations);
    }

    /// From now on a sync says yes and does nothing.
    pub(crate) fn lie_about_syncs(&self) {
        self.set_lying(true);
    }

    pub(crate) fn set_lying(&self, lying: bool) {
        *self.power.lying.lock() = lying;
    }

    /// What a machine finds that starts again after the power went.
    pub(crate) fn after_crash(&self, random: &mut impl Rng) -> Self {
        let names = self.names.lock();
        let mut found = names.durable.clone();
        // A file system with a journal makes a prefix of them durable; one without, any.
        let journal = random.random_bool(0.5);
        let kept = random.random_range(0..=names.pending.len());
        for (at, change) in names.pending.iter().enumerate() {
            if if journal { at < kept } else { random.random_bool(0.5) } {
                change.apply(&mut found);
            }
        }
        let power = Arc::new(Power::default());
        *power.lying.lock() = *self.power.lying.lock();
        let after = found.iter().map(|(name, file)| (name.clone(), file.after_crash(random, power.clone())));
        Self { names: Mutex::new(Names::settled(after.collect())), power }
    }
}

impl Names {
    fn settled(files: BTreeMap<String, Arc<CrashFile>>) -> Self {
        Self { durable: files.clone(), current: files, pending: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Arc<CrashFile>>) {
        match self {
            Self::Put(name, file) => drop(names.insert(name.clone(), file.clone())),
            Self::Rename { from, to, file } => {
                if names.get(from).is_some_and(|found| Arc::ptr_eq(found, file)) {
                    names.remove(from);
                }
                names.insert(to.clone(), file.clone());
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Power {
    fn use_some(&self) -> io::Result<()> {
        match &mut *self.left.lock() {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl CrashFile {
    fn after_crash(&self, random: &mut impl Rng, power: Arc<Power>) -> Arc<Self> {
        let content = self.content.lock();
        let mut found = content.durable.clone();
        for sector in &content.dirty {
            let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(content.current.len());
            if range.end <= found.len() && random.random_bool(0.5) {
                found[range.clone()].copy_from_slice(&content.current[range]);
            }
        }
        let content = Content { durable: found.clone(), current: found, ..Content::default() };
        Arc::new(Self { content: Mutex::new(content), power })
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("files in memory are small")
}

fn sectors(offset: usize, len: usize) -> std::ops::Range<usize> {
    offset / SECTOR_BYTES..(offset + len).div_ceil(SECTOR_BYTES)
}

impl Volume for CrashVolume {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().current.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn VolumeFile>> {
        self.power.use_some()?;
        let content = Content { current: vec![0; place(len)], ..Content::default() };
        let file = Arc::new(CrashFile { content: Mutex::new(content), power: self.power.clone() });
        self.names.lock().change(Change::Put(name.to_owned(), file.clone()));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn VolumeFile>> {
        let file = self.names.lock().current.get(name).cloned();
        file.map(|file| file as Arc<dyn VolumeFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.power.use_some()?;
        let mut names = self.names.lock();
        let file = names.current.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        names.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.power.use_some()?;
        self.names.lock().change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.power.use_some()?;
        if !*self.power.lying.lock() {
            let mut names = self.names.lock();
            names.durable = names.current.clone();
            names.pending.clear();
        }
        Ok(())
    }

    fn locate(&self, name: &str) -> String {
        name.to_owned()
    }
}

impl VolumeFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().current.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock();
        let offset = place(offset);
        let found = content.current.get(offset..offset + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        #[cfg(test)]
        if content.unreadable.is_some_and(|sector| sectors(offset, bytes.len()).contains(&sector)) {
            return Err(io::Error::other("the device cannot read this sector"));
        }
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content.lock();
        let offset = place(offset);
        let end = offset + bytes.len();
        if content.current.len() < end {
            content.current.resize(end, 0);
        }
        let write = self.power.writes.fetch_add(1, Ordering::Relaxed) + 1;
        #[cfg(test)]
        content.note(write, sectors(offset, bytes.len()));
        #[cfg(not(test))]
        let _ = write;
        content.current[offset..end].copy_from_slice(bytes);
        content.dirty.extend(sectors(offset, bytes.len()));
        drop(content);
        // A write that the power cut interrupts has reached the cache: any of its sectors may survive.
        self.power.use_some()
    }

    fn sync(&self) -> io::Result<()> {
        self.power.use_some()?;
        if !*self.power.lying.lock() {
            let mut content = self.content.lock();
            content.durable = content.current.clone();
            content.dirty.clear();
        }
        Ok(())
    }
}
