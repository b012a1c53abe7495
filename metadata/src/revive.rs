//! A new group from an old state, while nothing runs: restored from a backup, or made of the one member that is left when the
//! majority is gone for good.
//!
//! Either way the state is as old as it is, and what was promised after it is unknown. So the new group has one member, with a
//! data directory and a group id that are new (whoever remembers the old group is not heard), a higher term, log indices far beyond any that
//! the old one reached (whoever followed it starts over), and holders whose generations leapt ahead (no report from before is
//! taken). Other members come by `weft metadata add`, with empty directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use weft_transport::Identity;
use weft_types::MemberId;

use crate::config::Config;
use crate::error::StoreError;
use crate::log::{self, vote};
use crate::machine::{State, snapshot};
use crate::member::{self, BindError};
use crate::metrics::Metrics;
use crate::raft::{DiskId, LineageId, MemberNode, Membership, StoredMembership, Vote, log_id};
use crate::store::{self, Owner, Store};
use crate::volume::Volume;

/// A backup is read through this much of memory beside what it holds.
const READ_BYTES: usize = 1 << 20;

/// Generations leapt over: more than a holder number can have had lives since a backup, and drawn anew each time, so that two
/// restores of one backup differ.
const GENERATIONS: std::ops::Range<u32> = 1 << 16..1 << 20;

/// Log indices leapt over, times 2^32: likewise.
const INDEX_LEAPS: std::ops::Range<u64> = 1..1 << 16;

/// What a backup or a new group holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revived {
    /// Log index of the state that it was made of.
    pub index: u64,
    /// Who was in the group then.
    pub members: Vec<(MemberId, SocketAddr)>,
    /// Distinct blocks listed then. A new group lists none until its nodes report.
    pub blocks: u64,
    /// Engine replicas in the roster, which stay.
    pub endpoints: usize,
    /// Where the files from before were moved.
    pub before: Option<PathBuf>,
}

/// Why no new group was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviveError {
    /// The configuration or the certificate.
    #[error(transparent)]
    Member(#[from] BindError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It holds a member's state already.
    #[error(
        "{0} holds a log, a vote or a snapshot: a backup is restored into an empty data directory; move it away first"
    )]
    NotEmpty(PathBuf),
    /// The backup.
    #[error("{file} is no backup that can be used: {reason}")]
    Backup {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to go on from.
    #[error("{0} holds no state of a group: restore a backup instead")]
    Nothing(PathBuf),
}

/// Reads a backup to its end, and checks it.
///
/// # Errors
/// It cannot be read, or is not whole.
pub fn check_backup(file: &Path) -> Result<Revived, ReviveError> {
    read(file).map(|state| describe(&state))
}

/// Makes the first member of a new group, in an empty data directory, of a backup.
///
/// # Errors
/// The directory is in use, or the backup is not whole.
pub fn restore(config: &Config, backup: &Path) -> Result<Revived, ReviveError> {
    let owner = owner(config)?;
    let state = read(backup)?;
    let volume = store::open_volume(&config.data)?;
    if store::in_use(&*volume).map_err(|source| io("list", config, source))? {
        return Err(ReviveError::NotEmpty(config.data.clone()));
    }
    let described = describe(&state);
    let term = state.applied.map_or(0, |id| id.leader_id.term);
    found(&*volume, &owner, config, state, term).map_err(|source| io("write into", config, source))?;
    Ok(described)
}

/// Makes the first member of a new group of what a stopped member has on its disk, its log to the end. The files from before
/// are moved aside, into a folder of the data directory.
///
/// # Errors
/// The member runs, its directory is damaged, or holds nothing.
pub fn recover(config: &Config) -> Result<Revived, ReviveError> {
    let owner = owner(config)?;
    let metrics = Metrics::register(&prometheus::Registry::new()).map_err(BindError::from)?;
    let Store { volume, allegiance, log, machine } =
        Store::open(&config.data, &owner, member::log_settings(config), metrics)?;
    // Whether the lost majority had committed the end of the log cannot be known; if it had, somebody was told.
    let applied = machine.state().applied;
    for entry in log.entries_after(applied.map(|id| id.index)).map_err(|source| io("read", config, source))? {
        machine.replay(entry).map_err(|reason| io("read", config, std::io::Error::other(reason)))?;
    }
    let state = std::mem::take(&mut *machine.state_mut());
    let Some(last) = state.applied else { return Err(ReviveError::Nothing(config.data.clone())) };
    let term = log.vote().map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term);
    drop((log, machine));

    let before = config.data.join(format!("before-{}", allegiance.disk()));
    let mut described = describe(&state);
    move_aside(&*volume, &config.data, &before).map_err(|source| io("move aside in", config, source))?;
    described.before = Some(before);
    found(&*volume, &owner, config, state, term).map_err(|source| io("write into", config, source))?;
    Ok(described)
}

fn owner(config: &Config) -> Result<Owner, BindError> {
    config.check()?;
    let pem = config.identity.read()?;
    let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?;
    member::check_identity(&identity, config.member)?;
    Ok(Owner { cluster: identity.me.cluster.to_string(), member: config.member })
}

fn read(file: &Path) -> Result<State, ReviveError> {
    let unusable = |reason: String| ReviveError::Backup { file: file.to_owned(), reason };
    let opened = File::open(file).map_err(|error| unusable(error.to_string()))?;
    snapshot::read(BufReader::with_capacity(READ_BYTES, opened)).map(|(_, state)| state).map_err(unusable)
}

fn describe(state: &State) -> Revived {
    let members = state.membership.nodes().map(|(id, node)| (MemberId::new(*id), node.addr)).collect();
    let (directory, index) = (&state.directory, state.index());
    let endpoints = directory.roster().endpoints.len();
    Revived { index, members, blocks: directory.index().len() as u64, endpoints, before: None }
}

/// Writes a member that is a group of its own. The snapshot comes last: without it there is no group.
fn found(volume: &dyn Volume, owner: &Owner, config: &Config, mut state: State, term: u64) -> std::io::Result<()> {
    let (me, term) = (config.member.get(), term + 1);
    let disk = DiskId::draw();
    owner.write(volume, disk, Some(LineageId(crate::runtime::random())))?;
    vote::save(volume, &Vote::new(term, me))?;
    log::create_first(volume, config.wal.segment.bytes()).map_err(std::io::Error::other)?;
    let leap = rand::random_range(INDEX_LEAPS) << 32;
    let id = log_id(term, me, state.index() + leap);
    let addr = config.members.get(&config.member).copied().unwrap_or(config.fabric);
    let nodes = BTreeMap::from([(me, MemberNode { addr, disk })]);
    let membership = Membership::new(vec![BTreeSet::from([me])], nodes);
    state.applied = Some(id);
    state.membership = StoredMembership::new(Some(id), membership);
    state.directory.begin_anew(rand::random_range(GENERATIONS));
    snapshot::save(volume, state.freeze()).map(drop)
}

fn move_aside(volume: &dyn Volume, data: &Path, before: &Path) -> std::io::Result<()> {
    std::fs::create_dir(before)?;
    let names = volume.names()?;
    for name in names.iter().filter(|name| store::is_of_a_member(name)) {
        std::fs::rename(data.join(name), before.join(name))?;
    }
    File::open(before)?.sync_all()?;
    volume.sync()
}

fn io(operation: &'static str, config: &Config, source: std::io::Error) -> StoreError {
    StoreError::io(operation, config.data.display().to_string(), source)
}
