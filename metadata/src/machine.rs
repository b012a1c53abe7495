//! The replicated directory as openraft drives it: entries in, outcomes out, snapshots to disk and from the leader.
//!
//! ```text
//!                   ┌───────────────► Reply, to the proposer
//!  openraft ─ apply ┤  Directory ◄── lookups, watch snapshots (read lock)
//!                   └──► Feed ─────► watchers, in log order
//! ```
//!
//! # Invariants
//! - the directory, the last applied log id and the end of the feed move together, under one write lock: a watcher that
//!   takes a snapshot at an index gets every change after it from the feed;
//! - applying an entry of reports takes milliseconds: it runs beside the runtime's workers, and what calls need meanwhile is
//!   in the [`Glance`] that the entry before it left behind;
//! - what was applied is durable in the log or in a snapshot; after a restart the newest snapshot is loaded and openraft
//!   applies the log behind it again, once a leader says how much of it is committed.

pub(crate) mod feed;
mod glance;
pub(crate) mod incoming;
pub(crate) mod snapshot;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::info;
use weft_index::Match;
use weft_metadata_state::{Command, CommandError, Directory, DirectoryChange, FrozenDirectory};
use weft_types::IndexKey;

use self::feed::Feed;
use self::glance::Glance;
use self::snapshot::{SnapshotFile, TakenOver, Temporary};
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::raft::{CommandBytes, Entry, LogId, Reply, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::runtime::blocking;
use crate::volume::{FileReader, FileWriter, TEMPORARY_SUFFIX, Volume};

/// The applied state; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Machine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    glance: ArcSwap<Glance>,
    feed: Feed,
    volume: Arc<dyn Volume>,
    /// What the newest snapshot on disk covers.
    snapshot: Mutex<Option<SnapshotMeta>>,
    /// Bytes of commands applied since the last snapshot (or start).
    unsnapshotted_bytes: AtomicU64,
    metrics: Metrics,
    #[cfg(feature = "testing")]
    observer: Option<Box<dyn crate::runtime::simulated::Observer>>,
}

/// Everything that changes with an entry.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) directory: Directory,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl State {
    /// Log index up to which entries were applied; 0 before the first.
    pub(crate) fn index(&self) -> u64 {
        self.applied.map_or(0, |id| id.index)
    }

    /// The state as it is now, to be written while this one goes on.
    pub(crate) fn freeze(&mut self) -> FrozenState {
        let (applied, membership) = (self.applied, self.membership.clone());
        FrozenState { directory: self.directory.freeze(), applied, membership }
    }
}

/// The state as it was at one moment.
#[derive(Debug)]
pub(crate) struct FrozenState {
    directory: FrozenDirectory,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl FrozenState {
    /// As [`State::index`].
    pub(crate) fn index(&self) -> u64 {
        self.applied.map_or(0, |id| id.index)
    }

    /// Writes its snapshot, head and all, as it goes along; returns what the snapshot says of itself.
    pub(crate) fn write(self, out: &mut impl Write) -> io::Result<SnapshotMeta> {
        let meta = snapshot::meta(self.applied, self.membership);
        snapshot::write_head(&meta, out)?;
        self.directory.write(out)?;
        Ok(meta)
    }
}

impl Machine {
    /// Loads the newest snapshot, if there is one. Blocks: call it off the runtime.
    pub(crate) fn open(volume: Arc<dyn Volume>, metrics: Metrics) -> Result<Self, StoreError> {
        let (mut state, mut meta) = (State::default(), None);
        if let Some((found, loaded)) = snapshot::load_newest(&*volume)? {
            info!(applied = loaded.index(), "snapshot loaded");
            (state, meta) = (loaded, Some(found));
        }
        let feed = Feed::new(state.index(), state.directory.log_time());
        let shared = Shared {
            glance: ArcSwap::new(Glance::anew(&state)),
            state: RwLock::new(state),
            feed,
            volume,
            snapshot: Mutex::new(meta),
            unsnapshotted_bytes: AtomicU64::new(0),
            metrics,
            #[cfg(feature = "testing")]
            observer: crate::runtime::simulated::take_observer(),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// The state as applied so far. It waits while an entry is being applied; and holding it, applying waits.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read()
    }

    /// As [`Machine::state`], to freeze it. Nothing else changes it but applying.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write()
    }

    /// What the last entry left behind; never waits.
    pub(crate) fn glance(&self) -> Arc<Glance> {
        self.0.glance.load_full()
    }

    /// Leading blocks by holder, and what goes with them; never waits.
    pub(crate) fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Glance>) {
        glance::lookup(|| self.glance(), prefix)
    }

    /// Log index that the newest snapshot covers.
    pub(crate) fn snapshot_index(&self) -> Option<u64> {
        self.0.snapshot.lock().as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index)
    }

    /// Changes in log order.
    pub(crate) fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Bytes of commands applied since the last snapshot was begun.
    pub(crate) fn unsnapshotted_bytes(&self) -> u64 {
        self.0.unsnapshotted_bytes.load(Ordering::Relaxed)
    }

    /// Applies a committed entry that was read back at the start; nobody watches yet. Those that the snapshot covers are
    /// skipped.
    pub(crate) fn replay(&self, entry: Entry) -> Result<(), String> {
        let index = entry.log_id.index;
        let (expected, known) = {
            let state = self.0.state.read();
            (state.applied.map_or(0, |id| id.index + 1), state.applied.is_some_and(|id| index <= id.index))
        };
        if known {
            return Ok(());
        }
        if index != expected {
            return Err(format!("entry {expected} is missing before it"));
        }
        self.apply_entry(entry, false).map(drop).map_err(|error| error.to_string())
    }

    /// The last entry was replayed: changes begin here.
    pub(crate) fn replayed(&self) {
        let state = self.0.state.read();
        self.0.feed.jump(state.index(), state.directory.log_time());
    }

    fn apply_entry(&self, entry: Entry, publish: bool) -> Result<Reply, CommandError> {
        #[cfg(feature = "testing")]
        let payload = entry.payload.clone();
        let (command, membership) = match entry.payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Normal(CommandBytes(bytes)) => {
                self.0.unsnapshotted_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                (Some(Command::decode(&bytes)?), None)
            }
            EntryPayload::Membership(membership) => (None, Some(membership)),
        };
        let mut state = self.0.state.write();
        state.applied = Some(entry.log_id);
        if let Some(membership) = membership {
            state.membership = StoredMembership::new(Some(entry.log_id), membership);
        }
        let applied = command.map(|command| state.directory.apply_at(entry.log_id.index, command));
        #[cfg(feature = "testing")]
        if let Some(observer) = &self.0.observer {
            observer.applied(entry.log_id, &payload, applied.as_ref(), state.directory.log_time());
        }
        let (outcome, changes) = applied.map_or((None, Vec::new()), |applied| (Some(applied.outcome), applied.changes));
        self.0.metrics.changes.inc_by(changes.len() as u64);
        let roster_stays = changes.iter().all(|change| matches!(change, DirectoryChange::Blocks(_)));
        self.0.glance.store(match roster_stays {
            true => Glance::after(&self.glance(), &state),
            false => Glance::anew(&state),
        });
        if publish {
            self.0.feed.publish(entry.log_id.index, state.directory.log_time(), changes);
        }
        self.0.metrics.applied_entries.inc();
        self.0.metrics.applied_index.set(i64::try_from(entry.log_id.index).unwrap_or(i64::MAX));
        Ok(Reply(outcome))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.0.state.read();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let applied = beside_the_worker(|| {
            let mut replies = Vec::new();
            for entry in entries {
                let id = entry.log_id;
                replies.push(self.apply_entry(entry, true).map_err(|error| (id, error))?);
            }
            Ok(replies)
        });
        applied.map_err(|(id, error): (LogId, CommandError)| StorageIOError::apply(id, AnyError::new(&error)).into())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let frozen = self.0.state.write().freeze();
        self.0.unsnapshotted_bytes.store(0, Ordering::Relaxed);
        Builder { machine: self.clone(), frozen: Some(frozen) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        Ok(Box::new(SnapshotFile::none()))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<SnapshotFile>) -> Result<(), StorageError> {
        let (machine, meta) = (self.clone(), meta.clone());
        let installing = blocking(move || {
            let taken_over = match *snapshot {
                SnapshotFile { taken_over: Some(taken_over), .. } => taken_over,
                other => machine.copy(other)?,
            };
            machine.install(meta, taken_over).map_err(|error| error.to_string())
        });
        let installed = installing.await.unwrap_or_else(|error| Err(error.to_string()));
        installed.map_err(|error| StorageIOError::write_snapshot(None, AnyError::error(error)).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        if self.0.snapshot.lock().is_none() {
            return Ok(None);
        }
        let volume = self.0.volume.clone();
        let finding = blocking(move || snapshot::newest(&*volume));
        let found = match finding.await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let found = found.map_err(|error| StorageIOError::read_snapshot(None, AnyError::error(error)))?;
        Ok(found.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(SnapshotFile::of(file)) }))
    }
}

impl Machine {
    /// Durable first: the log before it is purged as soon as this returns.
    fn install(&self, meta: SnapshotMeta, taken_over: TakenOver) -> io::Result<()> {
        let TakenOver { temporary, state: taken } = taken_over;
        snapshot::put_in_place(&*self.0.volume, &temporary.name, &meta)?;
        let mut state = self.0.state.write();
        // What was before is large: it is dropped once nobody waits for the lock.
        let _before = std::mem::replace(&mut *state, taken);
        self.0.glance.store(Glance::anew(&state));
        self.0.feed.jump(state.index(), state.directory.log_time());
        self.0.unsnapshotted_bytes.store(0, Ordering::Relaxed);
        self.0.metrics.applied_index.set(i64::try_from(state.index()).unwrap_or(i64::MAX));
        info!(applied = state.index(), "took over a snapshot from the leader");
        self.0.metrics.snapshots_installed.inc();
        #[cfg(feature = "testing")]
        if let Some(observer) = &self.0.observer {
            observer.jumped(meta.last_log_id);
        }
        *self.0.snapshot.lock() = Some(meta);
        drop(state);
        Ok(())
    }

    /// Takes over a snapshot that lies elsewhere. Between members it is `incoming` that does.
    fn copy(&self, from: SnapshotFile) -> Result<TakenOver, String> {
        let text = |error: io::Error| error.to_string();
        let volume = self.0.volume.clone();
        let temporary = Temporary { volume: volume.clone(), name: format!("copied{TEMPORARY_SUFFIX}") };
        let from = from.file.ok_or("a snapshot without a file")?;
        let file = volume.create(&temporary.name, 0).map_err(text)?;
        let mut writer = FileWriter::new(file.clone());
        io::copy(&mut FileReader::new(from).map_err(text)?, &mut writer).map_err(text)?;
        writer.finish().map_err(text)?;
        let (_, state) = snapshot::read(FileReader::new(file).map_err(text)?)?;
        Ok(TakenOver { temporary, state })
    }
}

/// Runs what takes milliseconds, and lets another thread take over the worker's other tasks if there may be one.
fn beside_the_worker<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// Writes a snapshot of the state as it was when this was made; the machine goes on meanwhile.
#[derive(Debug)]
pub(crate) struct Builder {
    machine: Machine,
    /// Until it is written.
    frozen: Option<FrozenState>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let (machine, frozen) = (self.machine.clone(), self.frozen.take());
        let building = blocking(move || {
            let frozen = frozen.ok_or_else(|| io::Error::other("a builder builds one snapshot"))?;
            let applied = frozen.applied;
            let (meta, file, bytes) = snapshot::save(&*machine.0.volume, frozen)?;
            info!(index = ?applied.map(|id| id.index), bytes, "snapshot written");
            machine.0.metrics.snapshots.inc();
            *machine.0.snapshot.lock() = Some(meta.clone());
            Ok(Snapshot { meta, snapshot: Box::new(SnapshotFile::of(file)) })
        });
        let built = building.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        built.map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)).into())
    }
}
