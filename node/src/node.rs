//! The daemon: everything bound, or an error; then sessions until it is drained.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_attach::{ListenError, SocketPolicy, listen};
use weft_metadata_client::{Follower, FollowerMetrics, MetadataClient};
use weft_service::admin::{Admin, AdminError, Hooks};
use weft_service::config::ConfigError;
use weft_service::exit::{self, Fault};
use weft_service::telemetry::Telemetry;
use weft_store::MemoryBudget;
use weft_transport::{Credentials, Fabric, Identity, IdentityError, Profile, Routes};
use weft_types::{ByteSize, Incarnation, NodeId, NodeSpec, Role, Tier};

use crate::arenas::Arenas;
use crate::boot::{Boot, BootError};
use crate::clear;
use crate::config::Config;
use crate::directory::{Directory, MetadataDirectory};
use crate::disk::{self, Bell, DiskFault};
use crate::events::{self, Events, EventsFault};
use crate::fetch::{Fetcher, Patience};
use crate::inventory;
use crate::leases;
use crate::metrics::{DiskWork, Holdings, Metrics};
use crate::quarantine::Quarantine;
use crate::report::{Own, Reporter, Terms};
use crate::resp::{self, RespFault, RespMetrics};
use crate::roll::Roll;
use crate::serve::HostBlocks;
use crate::session::{self, Shared};

/// Engines at once: 256, far more than a host has accelerators. A connection beyond waits in the socket's backlog.
const SESSIONS_MAX: usize = 256;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Metadata without an identity.
    #[error("metadata is set, identity is not: the fabric speaks only mutual TLS; `weft certs issue` makes one")]
    NoIdentity,
    /// The certificate is not this node's.
    #[error("the certificate is of {role} '{name}', and this is node '{node}': give each process its own certificate")]
    WrongIdentity {
        /// Role in the certificate.
        role: Role,
        /// Name in the certificate.
        name: String,
        /// Name in the configuration.
        node: NodeId,
    },
    /// More host memory than the host has.
    #[error("host_memory is {asked}, and this host has {total}: leave some for the engines and the system")]
    HostMemory {
        /// As configured.
        asked: ByteSize,
        /// Of the host.
        total: ByteSize,
    },
    /// Identity files could not be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Identity files are not an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The boot counter could not be raised.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The disk tier cannot be.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// Engines cannot be followed.
    #[error(transparent)]
    Events(#[from] EventsFault),
    /// The RESP door cannot be opened.
    #[error(transparent)]
    Resp(#[from] RespFault),
    /// A fabric socket could not be bound.
    #[error(transparent)]
    Fabric(#[from] weft_transport::BindError),
    /// The engine socket could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin port could not be bound.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Two nodes on one registry.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Fault for BindError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoIdentity
            | Self::WrongIdentity { .. }
            | Self::HostMemory { .. }
            | Self::Config(_)
            | Self::Events(_)
            | Self::Disk(DiskFault::Size(_))
            | Self::Identity(_) => exit::CONFIG,
            Self::Resp(fault) if fault.is_of_configuration() => exit::CONFIG,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// A running node daemon.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    socket: PathBuf,
    admin: Admin,
    fabric: Option<Fabrics>,
    resp: Option<SocketAddr>,
    tasks: TaskTracker,
    _boot: Boot,
}

#[derive(Debug)]
struct Fabrics {
    control: Fabric,
    bulk: Fabric,
    credentials: Credentials,
}

impl Node {
    /// Binds all sockets and starts serving. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Whatever could not be bound or read; nothing stays bound then.
    pub async fn bind(config: Config, telemetry: &Telemetry) -> Result<Self, BindError> {
        check_memory(config.host_memory)?;
        let followed = Events::new(&config.engines)?;
        let boot = Boot::next(&config.state_dir)?;
        let metrics = Metrics::register(&telemetry.registry)?;
        let tasks = TaskTracker::new();
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let changed = Arc::new(Notify::new());
        let bell = Arc::<Bell>::default();
        let arenas = make_arenas(&config, &changed, &bell);
        let roll = Arc::<Roll>::default();
        let start_disk = |disk| {
            let changed = Arc::clone(&changed);
            let changed = Arc::new(move || changed.notify_one());
            let demotions = metrics.demotions.clone();
            disk::start((disk, config.name.clone()), (&arenas, Arc::clone(&bell)), demotions, changed, (&tasks, &stop))
        };
        // When something else fails, it ends with the guard.
        let starting = stop.clone().drop_guard();
        let disk = config.disk.as_ref().map(start_disk).transpose()?;
        Holdings::register((Arc::clone(&arenas), disk.clone()), Arc::clone(&roll), &telemetry.registry)?;
        followed.register(&telemetry.registry)?;
        if let Some(disk) = &disk {
            DiskWork::register(Arc::clone(disk), &telemetry.registry)?;
        }

        let own = Own { arenas: Arc::clone(&arenas), disk: disk.clone() };
        let fabric = bind_fabrics(&config, &own, &metrics, telemetry, (&tasks, &stop))?;
        let policy = SocketPolicy { allow_uids: config.allow_uids.clone() };
        let listener = listen(&config.socket, &policy).await?;
        let patience =
            Patience { fetch: config.fetch_deadline, lookup: config.lookup_deadline, pause: config.breaker_pause };
        let cluster = fabric.as_ref().filter(|_| !config.metadata.is_empty()).map(|fabric| {
            let metadata = MetadataClient::new(fabric.control.clone(), config.metadata.clone());
            let leases = metadata.follow_accounts(FollowerMetrics::register(&telemetry.registry));
            leases::keep(&leases, own.clone(), &tasks, &stop);
            let revoking = leases.clone().keep_revoked(fabric.credentials.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(revoking));
            serve_operators(&fabric.control, &own, leases, (&roll, &metrics));
            let spec = node_spec(&config, boot.incarnation, fabric);
            let reporter = Reporter::spawn(
                (metadata.clone(), spec),
                (own.clone(), Arc::clone(&changed)),
                metrics.clone(),
                Terms { deadline: config.report_deadline, anti_entropy: config.anti_entropy },
                (&tasks, &stop),
            );
            let directory: Arc<dyn Directory> = Arc::new(MetadataDirectory::new(metadata, config.name.clone()));
            (reporter, (fabric.bulk.clone(), directory))
        });
        let (reporter, remote) = cluster.unzip();
        let brings = remote.is_some() || disk.is_some();
        let fetcher = brings.then(|| Fetcher::new(disk.clone(), remote, patience, metrics.clone(), tasks.clone()));
        let resp = match &config.resp {
            None => None,
            Some(resp) => {
                let metrics = RespMetrics::register(&telemetry.registry)?;
                let tiers = (&arenas, disk.clone(), fetcher.clone());
                Some(resp::open(resp, tiers, config.fetch_deadline, metrics, (&tasks, &stop)).await?)
            }
        };
        if let Some(fabric) = fabric.as_ref().filter(|_| reporter.is_none()) {
            fabric.control.serve(Routes::new());
        }
        if config.gpu_copies {
            match tokio::task::spawn_blocking(weft_gpu::look).await {
                Ok(Ok(found)) => tracing::info!(%found, "GPUs found: copies for engines that ask for it"),
                Ok(Err(absent)) => {
                    tracing::warn!(%absent, "gpu_copies is on, and there is no GPU: engines copy by themselves")
                }
                Err(error) => tracing::warn!(%error, "cannot look for GPUs: engines copy by themselves"),
            }
        }
        let shared = Arc::new(Shared {
            node: config.name,
            incarnation: boot.incarnation,
            policy,
            arenas,
            disk,
            quarantine: Quarantine::new(config.quarantine, tasks.clone(), stop.clone()),
            fetcher,
            reporter,
            roll,
            events: followed,
            metrics,
            gpu_copies: config.gpu_copies,
            draining,
            stop,
        });
        let admin = Admin::bind(config.admin, telemetry, hooks(&shared)).await?;
        events::list(&shared, &config.engines);
        tasks.spawn(accept(Arc::clone(&shared), listener, tasks.clone()));
        starting.disarm();
        Ok(Self { shared, socket: config.socket, admin, fabric, resp, tasks, _boot: boot })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.shared.node
    }

    /// This life's number.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// Where engines attach.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where probes and metrics are.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Where it speaks the Redis protocol; `None` when it does not.
    #[must_use]
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.resp
    }

    /// Where it speaks the fabric; `None` when it stands alone.
    #[must_use]
    pub fn fabric_addr(&self) -> Option<SocketAddr> {
        self.fabric.as_ref().map(|fabric| fabric.control.local_addr())
    }

    /// Where it serves blocks; `None` when it stands alone.
    #[must_use]
    pub fn bulk_addr(&self) -> Option<SocketAddr> {
        self.fabric.as_ref().map(|fabric| fabric.bulk.local_addr())
    }

    /// Goes, in good order: takes no stores and no engines, tells those attached, leaves the roster, so that nobody fetches
    /// from here any more, and closes. Whatever has not ended `within` is cut off.
    pub async fn drain(self, within: Duration) {
        self.shared.draining.cancel();
        if let Some(reporter) = &self.shared.reporter {
            reporter.leave(within).await;
        }
        self.shared.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(?within, "sessions or fetches did not end in time: cut off");
        }
        if let Some(fabric) = &self.fabric {
            fabric.bulk.close().await;
            fabric.control.close().await;
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the engine socket was gone already");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Without a drain, as after a failed start of something else: nothing keeps running behind the owner's back.
        self.shared.draining.cancel();
        self.shared.stop.cancel();
    }
}

/// More than the host has would be found out only when engines fill it: by the kernel, which kills something.
fn check_memory(asked: ByteSize) -> Result<(), BindError> {
    let host = rustix::system::sysinfo();
    let unit = u64::from(host.mem_unit.max(1));
    let total = ByteSize::from_bytes(host.totalram.saturating_mul(unit));
    if asked <= total { Ok(()) } else { Err(BindError::HostMemory { asked, total }) }
}

fn make_arenas(config: &Config, changed: &Arc<Notify>, bell: &Arc<Bell>) -> Arc<Arenas> {
    let (changed, bell, has_disk) = (Arc::clone(changed), Arc::clone(bell), config.disk.is_some());
    let of_resp = config.resp.as_ref().map_or(0, |resp| resp.memory.bytes());
    let others = ByteSize::from_bytes(config.host_memory.bytes().saturating_sub(of_resp));
    let contract_memory = config.contract_memory.unwrap_or(others);
    let tell = move || {
        changed.notify_one();
        if has_disk {
            bell.ring();
        }
    };
    Arenas::new(MemoryBudget::new(config.host_memory), contract_memory, Arc::new(tell), has_disk)
}

fn bind_fabrics(
    config: &Config,
    own: &Own,
    metrics: &Metrics,
    telemetry: &Telemetry,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<Option<Fabrics>, BindError> {
    let Some(files) = &config.identity else {
        return if config.metadata.is_empty() { Ok(None) } else { Err(BindError::NoIdentity) };
    };
    let pem = files.read()?;
    let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?;
    if identity.me.role != Role::Node || identity.me.name != *config.name.name() {
        return Err(BindError::WrongIdentity {
            role: identity.me.role,
            name: identity.me.name.to_string(),
            node: config.name.clone(),
        });
    }
    let transport = weft_transport::Metrics::register(&telemetry.registry);
    let credentials = Credentials::from(&identity);
    let control = Fabric::bind(config.fabric, Profile::Control, &credentials, transport.clone())?;
    let bulk = Fabric::bind(config.bulk, Profile::Bulk, &credentials, transport.clone())?;
    let renewed = credentials.clone();
    let renewing = files.clone().follow(move |pem| renewed.renew(&pem.cert, &pem.key, &pem.ca, &transport));
    tasks.spawn(stop.clone().run_until_cancelled_owned(renewing));
    let source = Arc::new(HostBlocks::new(Arc::clone(&own.arenas), own.disk.clone(), metrics.clone()));
    bulk.serve(Routes::new().blocks(&[Role::Node], source));
    Ok(Some(Fabrics { control, bulk, credentials }))
}

/// What operators may ask of this node, once it is part of a cluster.
fn serve_operators(control: &Fabric, own: &Own, leases: Follower, (roll, metrics): (&Arc<Roll>, &Metrics)) {
    let cleared = own.clone();
    let clear = move |peer, request| clear::clear(cleared.clone(), leases.clone(), peer, request);
    let (own, roll, metrics) = (own.clone(), Arc::clone(roll), metrics.clone());
    let inventory =
        move |_, _| std::future::ready(Ok(inventory::inventory((&own.arenas, own.disk.as_ref()), &roll, &metrics)));
    control.serve(
        Routes::new()
            .rpc::<clear::Clear, _, _>(&[Role::Admin], clear)
            .rpc::<inventory::Inventory, _, _>(&[Role::Admin], inventory),
    );
}

fn node_spec(config: &Config, incarnation: Incarnation, fabric: &Fabrics) -> NodeSpec {
    let tiers = std::iter::once((Tier::Host, config.host_memory));
    let disk = config.disk.as_ref().map(|disk| (Tier::Disk, disk.size));
    NodeSpec {
        id: config.name.clone(),
        incarnation,
        fabric: fabric.control.local_addr(),
        bulk: fabric.bulk.local_addr(),
        capacity: tiers.chain(disk).collect(),
        labels: config.labels.clone(),
    }
}

async fn accept(shared: Arc<Shared>, listener: UnixListener, tasks: TaskTracker) {
    let seats = Arc::new(Semaphore::new(SESSIONS_MAX));
    let mut session = 0;
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = shared.draining.cancelled() => return,
        };
        match connection {
            Ok((stream, _)) => {
                session += 1;
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    session::serve(shared, stream, session).await;
                    drop(seat);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others have to close theirs first.
                tracing::error!(%error, "cannot accept an engine");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn hooks(shared: &Arc<Shared>) -> Hooks {
    let (ready, state) = (Arc::clone(shared), Arc::clone(shared));
    Hooks {
        ready: Arc::new(move || match ready.draining.is_cancelled() {
            true => Err("draining".to_owned()),
            false => Ok(()),
        }),
        state: Arc::new(move || self::state(&state)),
    }
}

fn state(shared: &Shared) -> serde_json::Value {
    let arena = |arena: &Arc<weft_store::Arena>| {
        let (held, geometry) = (arena.tier().held(), arena.region().geometry());
        json!({
            "contract": arena.contract().id().to_string(),
            "model": arena.contract().model_key.model,
            "block_bytes": geometry.block_bytes,
            "slots": geometry.slots,
            "huge_pages": arena.region().is_huge(),
            "complete": held.complete,
            "pinned": held.pinned,
            "leased": held.leased,
            "reserved": held.reserved,
            "evicting": held.evicting,
            "evicted": held.evicted,
        })
    };
    json!({
        "role": "node",
        "name": shared.node.to_string(),
        "incarnation": shared.incarnation.get(),
        "standalone": shared.reporter.is_none(),
        "draining": shared.draining.is_cancelled(),
        "memory_bytes": shared.arenas.budget().total().bytes(),
        "memory_left_bytes": shared.arenas.budget().left().bytes(),
        "arenas": shared.arenas.all().iter().map(arena).collect::<Vec<_>>(),
        "disk": shared.disk.as_ref().map(|disk| {
            let held = disk.held();
            json!({
                "phase": disk.phase().as_str(),
                "capacity_bytes": disk.capacity().bytes(),
                "blocks": held.blocks,
                "bytes": held.bytes,
                "segments": held.segments,
                "failed_segments": held.failed_segments,
                "index_bytes": held.index_bytes,
                "direct": disk.tier().is_some_and(|tier| tier.is_direct()),
            })
        }),
        "engines": shared.roll.state(),
        "quarantined": shared.quarantine.len(),
    })
}
