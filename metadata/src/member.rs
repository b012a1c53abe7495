//! [`Metadata`]: one member, from bind to drain.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Raft, SnapshotPolicy};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use weft_service::admin::{Admin, AdminError, Hooks};
use weft_service::exit::{self, Fault};
use weft_service::telemetry::Telemetry;
use weft_transport::{Credentials, Fabric, Identity, IdentityError, Profile, Routes};
use weft_types::{MemberId, Role};

use crate::config::{Config, ConfigError};
use crate::error::StoreError;
use crate::forming::{Forming, Waiting};
use crate::group::Group;
use crate::handover::hand_over;
use crate::log::{LogSettings, LogStore};
use crate::machine::Machine;
use crate::machine::incoming::Incoming;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::raft::network::Network;
use crate::raft::{handover, hello, serve};
use crate::service::chores::Chores;
use crate::service::liveness::Liveness;
use crate::service::reports::Folder;
use crate::service::watch::Watches;
use crate::service::{PROPOSALS_MAX, Service, status};
use crate::store::{Owner, Store};

/// Entries in one append, whatever their size: a thousand heartbeats' worth would be too many to decode at once.
const APPEND_ENTRIES_MAX: u64 = 256;

/// Calls served at a time. Those that wait for the log are bounded below this (see `service`), so that Raft's own, which they
/// wait for, always find room.
const CALLS_MAX: usize = 8192;

/// Longest that stopping waits for answers that are on their way.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// A member of the metadata group.
///
/// Dropping it stops it, and does not wait until it has; [`Metadata::drain`] does.
#[derive(Debug)]
pub struct Metadata {
    member: MemberId,
    running: Running,
    admin: Admin,
    /// Ends what keeps the certificates.
    _keeping: DropGuard,
}

/// What runs of a member, its admin port apart.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) group: Group,
    pub(crate) log: LogStore,
    pub(crate) fabric: Fabric,
    /// Stops Raft and closes the fabric once told to.
    closer: JoinHandle<()>,
    /// Tells it to.
    stop: DropGuard,
}

/// Why a member could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the identity could not be read.
    #[error("cannot read this member's identity")]
    IdentityFile(#[from] weft_service::config::ConfigError),
    /// The files are no identity.
    #[error("this member's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// The certificate is of somebody else.
    #[error(
        "the certificate is of {found}: member {member} needs one of metadata/{member}; issue it with `weft certs issue --role metadata --name {member}`"
    )]
    WrongIdentity {
        /// Who we are.
        member: MemberId,
        /// Whose it is.
        found: String,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The fabric port could not be bound.
    #[error(transparent)]
    Fabric(#[from] weft_transport::BindError),
    /// The admin port could not be bound.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Metrics of that name are registered already.
    #[error("cannot register metrics: one registry serves one member")]
    Metrics(#[from] prometheus::Error),
    /// openraft did not start.
    #[error("cannot start Raft: {0}")]
    Raft(String),
}

impl Fault for BindError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::IdentityFile(_) | Self::Identity(_) | Self::WrongIdentity { .. } => exit::CONFIG,
            _ => exit::UNAVAILABLE,
        }
    }
}

impl Metadata {
    /// Recovers the log, binds both ports and starts taking part. Must be called inside a tokio runtime of two workers or
    /// more.
    ///
    /// # Errors
    /// The first thing that was not as it must be; nothing is left running then.
    pub async fn bind(config: Config, telemetry: &Telemetry) -> Result<Self, BindError> {
        config.check()?;
        let pem = config.identity.read()?;
        let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?;
        check_identity(&identity, config.member)?;
        let metrics = Metrics::register(&telemetry.registry)?;
        let store = open_store(&config, &identity, &metrics).await?;

        let fabric_metrics = weft_transport::Metrics::register(&telemetry.registry);
        let credentials = Credentials::from(&identity);
        let fabric = Fabric::bind(config.fabric, Profile::Control, &credentials, fabric_metrics.clone())?;
        let disk = store.allegiance.disk();
        let running = Running::start(&config, fabric, store, &metrics).await?;
        let keeping = CancellationToken::new();
        let revoking = keep_revoked(running.group.machine.clone(), credentials.clone());
        tokio::spawn(keeping.clone().run_until_cancelled_owned(revoking));
        let renewing =
            config.identity.follow(move |pem| credentials.renew(&pem.cert, &pem.key, &pem.ca, &fabric_metrics));
        tokio::spawn(keeping.clone().run_until_cancelled_owned(renewing));
        let keeping = keeping.drop_guard();
        let admin = match Admin::bind(config.admin, telemetry, hooks(&running.group, &running.log)).await {
            Ok(admin) => admin,
            Err(error) => {
                running.stop().await;
                return Err(error.into());
            }
        };
        info!(
            member = %config.member, fabric = %running.fabric.local_addr(), admin = %admin.addr(), %disk,
            "metadata member serves",
        );
        Ok(Self { member: config.member, running, admin, _keeping: keeping })
    }

    /// Which member this is.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Bound fabric address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.running.fabric.local_addr()
    }

    /// Bound admin address.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Resolves when this member can take part no longer, with the reason: its disk failed, or its state did. The process
    /// should end then, so that a supervisor or an operator sees it.
    pub async fn failed(&self) -> String {
        let mut metrics = self.running.group.raft.metrics();
        match metrics.wait_for(|metrics| metrics.running_state.is_err()).await {
            Ok(metrics) => metrics.running_state.clone().map_or_else(|fatal| fatal.to_string(), |()| String::new()),
            Err(_) => "Raft has stopped".to_owned(),
        }
    }

    /// Hands leadership over, stops taking requests, tells watchers, leaves the group to the others, and closes log and ports; all within `within`.
    /// What was not acknowledged may be lost; what was is not.
    pub async fn drain(self, within: Duration) {
        let Self { member, running, admin, _keeping: keeping } = self;
        let closing = async {
            if running.group.leadership().is_some()
                && let Err(error) = hand_over(&running.group, &running.fabric, None).await
            {
                info!(%member, "leadership is not handed over, and costs an election: {error}");
            }
            // Its routes hold on to the log, which ends when nobody does.
            drop((admin, keeping));
            running.stop().await;
        };
        match tokio::time::timeout(within, closing).await {
            Ok(()) => info!(%member, "metadata member drained"),
            Err(_) => warn!(%member, ?within, "metadata member did not drain in time and is dropped as it is"),
        }
    }
}

impl Running {
    /// Starts taking part, on a store that was recovered and a fabric that serves nothing yet.
    pub(crate) async fn start(
        config: &Config,
        fabric: Fabric,
        store: Store,
        metrics: &Metrics,
    ) -> Result<Self, BindError> {
        let Store { volume, allegiance, log, machine } = store;
        let me = config.member.get();
        let members: BTreeMap<u64, SocketAddr> = config.members.iter().map(|(id, addr)| (id.get(), *addr)).collect();
        let network = Network::new(me, allegiance.clone(), fabric.clone(), members.clone());
        log.lead_no_more(me);
        let raft = Raft::new(me, raft_config(config)?, network, log.clone(), machine.clone()).await;
        let raft = raft.map_err(|error| BindError::Raft(error.to_string()))?;
        let waiting = Waiting::default();
        let group = Group::new(me, raft, machine, waiting.clone(), config.raft.election_max);

        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let stop = closing.clone().drop_guard();
        let closer = tokio::spawn(close(group.clone(), fabric.clone(), tasks.clone(), closing.clone()));
        let joining = Members::new(group.clone(), fabric.clone(), allegiance.clone());
        let service = start_service(config, &group, joining, &log, metrics, &tasks, &closing);
        let routes = Routes::new().calls_max(CALLS_MAX);
        let lease = config.raft.election_max;
        let routes = serve::routes(routes, &group.raft, &allegiance, Incoming::new(volume), lease);
        let routes = hello::routes(routes, &group.raft, &allegiance);
        fabric.serve(service.routes(handover::routes(routes, &group.raft, &allegiance)));
        let forming = Forming { me, allegiance, members, fabric: fabric.clone(), raft: group.raft.clone(), waiting };
        tasks.spawn(closing.run_until_cancelled_owned(forming.run()));
        Ok(Self { group, log, fabric, closer, stop })
    }

    /// Stops everything, from the outside in, and returns when it has.
    pub(crate) async fn stop(self) {
        let Self { group, log, fabric, closer, stop } = self;
        drop(stop);
        let _ = closer.await;
        drop((group, fabric));
        log.close().await;
    }
}

/// Waits for `closing`, and then stops what runs, from the outside in.
async fn close(group: Group, fabric: Fabric, tasks: TaskTracker, closing: CancellationToken) {
    closing.cancelled().await;
    tasks.close();
    // Watchers hear why before their connection goes, unless they do not listen.
    let _ = tokio::time::timeout(LAST_WORDS_MAX, tasks.wait()).await;
    if let Err(error) = group.raft.shutdown().await {
        warn!(%error, "Raft did not stop as it should");
    }
    fabric.close().await;
}

/// Tells `credentials` which certificates are revoked, entry by entry as this member applies them.
async fn keep_revoked(machine: Machine, credentials: Credentials) {
    let mut progress = machine.feed().progress();
    loop {
        progress.borrow_and_update();
        credentials.revoke(&machine.glance().revoked);
        if progress.changed().await.is_err() {
            return;
        }
    }
}

pub(crate) fn check_identity(identity: &Identity, member: MemberId) -> Result<(), BindError> {
    let me = &identity.me;
    if me.role == Role::Metadata && me.name.as_str() == member.to_string() {
        return Ok(());
    }
    Err(BindError::WrongIdentity { member, found: format!("{}/{}", me.role, me.name) })
}

pub(crate) fn log_settings(config: &Config) -> LogSettings {
    LogSettings {
        segment_bytes: config.wal.segment.bytes(),
        tail_bytes_max: usize::try_from(config.wal.memory.bytes()).unwrap_or(usize::MAX),
    }
}

/// Opens and recovers the data directory, off the runtime.
async fn open_store(config: &Config, identity: &Identity, metrics: &Metrics) -> Result<Store, StoreError> {
    let path = config.data.clone();
    let owner = Owner { cluster: identity.me.cluster.to_string(), member: config.member };
    let settings = log_settings(config);
    let metrics = metrics.clone();
    let opening = tokio::task::spawn_blocking(move || Store::open(&path, &owner, settings, metrics));
    opening.await.unwrap_or_else(|error| {
        Err(StoreError::io("open", config.data.display().to_string(), std::io::Error::other(error)))
    })
}

fn raft_config(config: &Config) -> Result<Arc<openraft::Config>, BindError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let raft = openraft::Config {
        cluster_name: "weft-metadata".to_owned(),
        heartbeat_interval: millis(config.raft.heartbeat),
        election_timeout_min: millis(config.raft.election_min),
        election_timeout_max: millis(config.raft.election_max),
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot.entries),
        // The chores keep fewer where they are long: what is kept is counted in bytes, see `snapshot.keep`.
        max_in_snapshot_log_to_keep: config.snapshot.entries,
        purge_batch_size: 1,
        // More than a snapshot may be behind, or taking one over would not help a follower that lags.
        replication_lag_threshold: 2 * config.snapshot.entries,
        ..openraft::Config::default()
    };
    raft.validate().map(Arc::new).map_err(|error| BindError::Raft(error.to_string()))
}

fn start_service(
    config: &Config,
    group: &Group,
    members: Members,
    log: &LogStore,
    metrics: &Metrics,
    tasks: &TaskTracker,
    closing: &CancellationToken,
) -> Arc<Service> {
    let liveness = Arc::new(Liveness::new(config.node_lease));
    let chores = Chores {
        group: group.clone(),
        log: log.clone(),
        liveness: liveness.clone(),
        members: members.clone(),
        limits: config.limits(),
        snapshot_bytes: config.snapshot.bytes.bytes(),
        keep_bytes: config.snapshot.keep.bytes(),
        metrics: metrics.clone(),
    };
    tasks.spawn(chores.run(closing.clone()));
    Arc::new(Service {
        group: group.clone(),
        log: log.clone(),
        liveness,
        members,
        reports: Folder::start(group.clone(), metrics.clone(), tasks, closing.clone()),
        watches: Arc::new(Watches::new(group.clone(), metrics.clone(), tasks.clone(), closing.clone())),
        proposals: Semaphore::new(PROPOSALS_MAX),
        metrics: metrics.clone(),
    })
}

fn hooks(group: &Group, log: &LogStore) -> Hooks {
    let (ready, state) = (group.clone(), (group.clone(), log.clone()));
    Hooks {
        ready: Arc::new(move || status::ready(&ready)),
        state: Arc::new(move || {
            serde_json::to_value(status::status(&state.0, &state.1)).unwrap_or_else(|error| error.to_string().into())
        }),
    }
}
