//! Members for the simulation (`tests/sim`): everything real but the device, the network, the clock and the dice.
//!
//! ```text
//!  Member ── Group, Service, Raft, log, machine (as in production)
//!     ├── Disk: a volume in memory that loses power, and may lie about syncing
//!     └── Fabric of a network in memory
//! ```
//! A simulation runs on one thread: a current-thread runtime with a paused clock, and a [`Simulation`] for as long as it
//! lives.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::{EntryPayload, ServerState};
use rand::Rng;
use weft_metadata_state::{Applied, Directory};
use weft_transport::Fabric;
use weft_types::LogTime;

use crate::log::LogSettings;
use crate::member::Running;
use crate::members::is_half_made;
use crate::metrics::Metrics;
use crate::raft::{CommandBytes, LogId, Types};
use crate::runtime::simulated::{self, Observer};
use crate::store::{Owner, Store};
use crate::volume::crash::CrashVolume;
use crate::volume::{Volume, remove_temporaries};
use crate::{BindError, Config, StoreError};

/// While it lives, members that this thread starts throw dice by its seed and do nothing on another thread.
#[derive(Debug)]
pub struct Simulation {
    /// It is of its thread.
    _here: PhantomData<*const ()>,
}

/// What a member's files are on. Clone is cheap; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<CrashVolume>);

/// A member of the group.
#[derive(Debug)]
pub struct Member {
    running: Running,
}

/// An applied entry, as one member saw it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Index in the log.
    pub index: u64,
    /// Term of the leader that put it there.
    pub term: u64,
    /// Which member that was.
    pub leader: u64,
    /// The command's bytes; none for an entry of Raft's own.
    pub command: &'a [u8],
    /// What applying it gave; `None` likewise.
    pub applied: Option<&'a Applied>,
    /// The directory's time after it.
    pub at: LogTime,
}

/// Told of everything that a member applies.
pub trait Observe: std::fmt::Debug + Send + Sync {
    /// An entry was applied.
    fn applied(&self, seen: &Seen<'_>);
    /// The member took over a snapshot of this index.
    fn jumped(&self, index: u64);
}

/// A member's place in Raft.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its term.
    pub term: u64,
    /// It believes to lead it.
    pub leads: bool,
    /// Index of the last entry that it applied.
    pub applied: u64,
    /// It still takes part.
    pub well: bool,
}

impl Simulation {
    /// Begins.
    #[must_use]
    pub fn begin(seed: u64) -> Self {
        simulated::set(Some(seed));
        Self { _here: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        simulated::set(None);
    }
}

impl Disk {
    /// The power goes during the operation after `operations` more; whatever is asked of the disk then fails.
    pub fn cut_power_after(&self, operations: u32) {
        self.0.cut_power_after(operations);
    }

    /// From now on a sync says yes and does nothing; disks that come of it do the same.
    pub fn lie_about_syncs(&self) {
        self.0.lie_about_syncs();
    }

    /// What is found when the power is back: what was synced, and of the rest what chance left.
    #[must_use]
    pub fn after_crash(&self, random: &mut impl Rng) -> Self {
        Self(Arc::new(self.0.after_crash(random)))
    }
}

impl Member {
    /// Recovers what the disk holds and starts taking part.
    ///
    /// # Errors
    /// The disk holds what no crash may leave.
    pub async fn start(
        config: &Config,
        fabric: Fabric,
        disk: &Disk,
        observer: impl Observe + 'static,
    ) -> Result<Self, BindError> {
        let metrics = Metrics::register(&prometheus::Registry::new())?;
        let settings = LogSettings {
            segment_bytes: config.wal.segment.bytes(),
            tail_bytes_max: usize::try_from(config.wal.memory.bytes()).unwrap_or(usize::MAX),
        };
        simulated::observe_next(Box::new(Observing(observer)));
        remove_temporaries(&*disk.0).map_err(|source| StoreError::io("clean", disk.0.locate(""), source))?;
        let owner = Owner { cluster: "sim".to_owned(), member: config.member };
        let store = Store::open_on(disk.0.clone(), &owner, settings, metrics.clone())?;
        Ok(Self { running: Running::start(config, fabric, store, &metrics).await? })
    }

    /// Its place in the group.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let metrics = self.running.group.metrics();
        Standing {
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader,
            applied: self.running.group.machine.state().index(),
            well: metrics.running_state.is_ok(),
        }
    }

    /// Who votes in its group, as far as it knows.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<u64> {
        self.running.group.metrics().membership_config.membership().voter_ids().collect()
    }

    /// Whether its group has this member, as far as it knows: with a vote or without.
    #[must_use]
    pub fn lists(&self, id: u64) -> bool {
        self.running.group.metrics().membership_config.membership().get_node(&id).is_some()
    }

    /// Whether, as far as it knows, the group is in the midst of a change: two sets of voters are in force.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        is_half_made(&self.running.group.metrics())
    }

    /// Looks at its directory, and the log index of which that is the state.
    pub fn directory<T>(&self, look: impl FnOnce(&Directory, u64) -> T) -> T {
        let state = self.running.group.machine.state();
        look(&state.directory, state.index())
    }

    /// Stops as an operator would have it.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

#[derive(Debug)]
struct Observing<O>(O);

impl<O: Observe> Observer for Observing<O> {
    fn applied(&self, id: LogId, payload: &EntryPayload<Types>, applied: Option<&Applied>, at: LogTime) {
        let command = if let EntryPayload::Normal(CommandBytes(bytes)) = payload { &bytes[..] } else { &[] };
        self.0.applied(&Seen {
            index: id.index,
            term: id.leader_id.term,
            leader: id.leader_id.node_id,
            command,
            applied,
            at,
        });
    }

    fn jumped(&self, id: Option<LogId>) {
        self.0.jumped(id.map_or(0, |id| id.index));
    }
}
