//! A member's data directory as a whole: whose it is, its snapshot and its log, opened together and checked against each
//! other.

use std::path::Path;
use std::sync::Arc;

use weft_types::MemberId;

use crate::allegiance::Allegiance;
use crate::error::StoreError;
use crate::log::{LogSettings, LogStore};
use crate::machine::{Machine, snapshot};
use crate::metrics::Metrics;
use crate::raft::{DiskId, Entry, LineageId};
use crate::volume::{LocalVolume, Volume, read_whole, remove_temporaries, replace_whole};

/// File that says whose the data directory is, and which one.
pub(crate) const OWNER_NAME: &str = "member";

/// Entries that may have been read and not applied: 64 of the largest.
const ENTRIES_AHEAD_MAX: usize = 64;

/// An open data directory.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) volume: Arc<dyn Volume>,
    pub(crate) allegiance: Allegiance,
    pub(crate) log: LogStore,
    pub(crate) machine: Machine,
}

/// Whose a data directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) cluster: String,
    pub(crate) member: MemberId,
}

impl Store {
    /// Opens and recovers the directory, made if it is not there. Blocks: call it off the runtime.
    pub(crate) fn open(
        path: &Path,
        owner: &Owner,
        settings: LogSettings,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        Self::open_on(open_volume(path)?, owner, settings, metrics)
    }

    /// As [`Store::open`], on a volume that is open already.
    pub(crate) fn open_on(
        volume: Arc<dyn Volume>,
        owner: &Owner,
        settings: LogSettings,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let allegiance = owner.claim(volume.clone())?;
        check_log(&*volume)?;
        let (machine, log) = load(&volume, settings, &metrics)?;
        if allegiance.group().is_none() && log.has_entries() {
            let reason = "it does not say of which group the log is that lies beside it".to_owned();
            return Err(StoreError::Damaged { file: volume.locate(OWNER_NAME), offset: 0, reason });
        }
        match (log.purged_index(), machine.snapshot_index()) {
            // The directory as of the purge would have to be made up.
            (Some(purged), snapshot) if snapshot.is_none_or(|snapshot| snapshot < purged) => {
                Err(StoreError::Missing { file: volume.locate(&snapshot::name(purged)) })
            }
            _ => Ok(Self { volume, allegiance, log, machine }),
        }
    }
}

/// A log that is gone would be begun anew behind the snapshot, and nobody would miss it.
fn check_log(volume: &dyn Volume) -> Result<(), StoreError> {
    let names = volume.names().map_err(|source| StoreError::io("list", volume.locate(""), source))?;
    let some = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    if some("snapshot-") && !some("log-") {
        return Err(StoreError::Missing { file: volume.locate("log-*") });
    }
    Ok(())
}

/// Reads snapshot and log, each once, at the same time: the log is read and checked on a thread of its own, and what is
/// committed of it is applied as it comes, behind the snapshot.
fn load(volume: &Arc<dyn Volume>, settings: LogSettings, metrics: &Metrics) -> Result<(Machine, LogStore), StoreError> {
    #[cfg(feature = "testing")]
    if crate::runtime::simulated::is() {
        return load_in_turn(volume, settings, metrics);
    }
    let (entries, read) = std::sync::mpsc::sync_channel(ENTRIES_AHEAD_MAX);
    std::thread::scope(|scope| {
        let log = scope.spawn(move || {
            let mut sink = |entry| entries.send(entry).map_err(|_| "the state it belongs to cannot be read".to_owned());
            LogStore::open_into(volume.clone(), settings, metrics.clone(), &mut sink)
        });
        let applied = replay(volume, metrics, &read);
        drop(read);
        let log = log.join().unwrap_or_else(|_| {
            let panicked = std::io::Error::other("the thread that read it panicked");
            Err(StoreError::io("read", volume.locate("log-*"), panicked))
        });
        // If both failed, the log only because nobody took its entries.
        let machine = applied?;
        Ok((machine, log?))
    })
}

/// As [`load`], on one thread, for a simulation.
#[cfg(feature = "testing")]
fn load_in_turn(
    volume: &Arc<dyn Volume>,
    settings: LogSettings,
    metrics: &Metrics,
) -> Result<(Machine, LogStore), StoreError> {
    let mut entries = Vec::new();
    let mut sink = |entry| {
        entries.push(entry);
        Ok(())
    };
    let log = LogStore::open_into(volume.clone(), settings, metrics.clone(), &mut sink)?;
    Ok((replay(volume, metrics, entries)?, log))
}

/// Opens the state and applies the entries that come.
fn replay(
    volume: &Arc<dyn Volume>,
    metrics: &Metrics,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Machine, StoreError> {
    let machine = Machine::open(volume.clone(), metrics.clone())?;
    let damaged = |reason| StoreError::Damaged { file: volume.locate("log-*"), offset: 0, reason };
    for entry in entries {
        let id = openraft::RaftLogId::get_log_id(&entry).to_owned();
        machine.replay(entry).map_err(|reason| damaged(format!("entry {id}: {reason}")))?;
    }
    machine.replayed();
    Ok(machine)
}

/// Opens a directory, made if it is not there, and removes what a crash left half-made.
pub(crate) fn open_volume(path: &Path) -> Result<Arc<dyn Volume>, StoreError> {
    let io = |operation| {
        let file = path.display().to_string();
        move |source| StoreError::io(operation, file, source)
    };
    let volume = LocalVolume::open(path).map_err(io("open"))?;
    remove_temporaries(&volume).map_err(io("clean"))?;
    Ok(Arc::new(volume))
}

impl Owner {
    /// A log replayed into another group, or by another member, would be a lie: each directory says whose it is. An empty
    /// one becomes ours, and gets an id that no other directory has.
    pub(crate) fn claim(&self, volume: Arc<dyn Volume>) -> Result<Allegiance, StoreError> {
        let io = |operation, source| StoreError::io(operation, volume.locate(OWNER_NAME), source);
        let (disk, group) = match read_whole(&*volume, OWNER_NAME, 4096) {
            Ok(found) => self.recognise(&found).ok_or_else(|| StoreError::Foreign {
                file: volume.locate(OWNER_NAME),
                found: String::from_utf8_lossy(&found).trim().to_owned(),
                expected: self.text(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if in_use(&*volume).map_err(|source| io("list", source))? {
                    return Err(StoreError::Missing { file: volume.locate(OWNER_NAME) });
                }
                let disk = DiskId::draw();
                self.write(&*volume, disk, None).map_err(|source| io("write", source))?;
                (disk, None)
            }
            Err(source) => return Err(io("read", source)),
        };
        Ok(Allegiance::new(volume, self.clone(), disk, group))
    }

    /// Says whose the directory is, which one, and of which group.
    pub(crate) fn write(&self, volume: &dyn Volume, disk: DiskId, group: Option<LineageId>) -> std::io::Result<()> {
        let group = group.map(|group| format!(" {group}")).unwrap_or_default();
        replace_whole(volume, OWNER_NAME, format!("{} {disk}{group}\n", self.text()).as_bytes())
    }

    fn text(&self) -> String {
        format!("{} {}", self.cluster, self.member)
    }

    fn recognise(&self, found: &[u8]) -> Option<(DiskId, Option<LineageId>)> {
        let found = std::str::from_utf8(found).ok()?.strip_prefix(&self.text())?;
        let ids = found.strip_prefix(' ')?.strip_suffix('\n')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        match ids.split_once(' ') {
            None => Some((DiskId(number(ids)?), None)),
            Some((disk, group)) => Some((DiskId(number(disk)?), Some(LineageId(number(group)?)))),
        }
    }
}

/// The directory holds a vote, a log or a snapshot.
pub(crate) fn in_use(volume: &dyn Volume) -> std::io::Result<bool> {
    Ok(volume.names()?.iter().any(|name| name != OWNER_NAME && is_of_a_member(name)))
}

/// A file that a member writes and needs again.
pub(crate) fn is_of_a_member(name: &str) -> bool {
    [OWNER_NAME, "vote"].contains(&name) || name.starts_with("log-") || name.starts_with("snapshot-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_id_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let owner = |cluster: &str, member| Owner { cluster: cluster.to_owned(), member: MemberId::new(member) };
        let volume = open_volume(folder.path()).unwrap();
        let disk = owner("test", 1).claim(volume.clone()).unwrap().disk();
        assert_eq!(owner("test", 1).claim(volume.clone()).unwrap().disk(), disk);
        for other in [owner("test", 11), owner("test", 2), owner("tes", 1)] {
            let error = other.claim(volume.clone()).unwrap_err();
            assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        }
        volume.create("vote", 0).unwrap();
        volume.remove(OWNER_NAME).unwrap();
        let error = owner("test", 1).claim(volume.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "a vote without an owner: {error}");
    }
}
