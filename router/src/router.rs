//! A router as one thing: everything bound, or an error; drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};
use weft_metadata_client::{Follower, FollowerMetrics, MetadataClient};
use weft_policy::{Fleet, Policy};
use weft_service::admin::{Admin, AdminError, Content, Hooks, Page};
use weft_service::config::ConfigError;
use weft_service::exit::{self, Fault};
use weft_service::telemetry::Telemetry;
use weft_tokens::{ModelFiles, TokensError};
use weft_transport::{Credentials, Fabric, Identity, IdentityError, Profile};
use weft_types::{EndpointId, Name, Roster};

use crate::admission::Admission;
use crate::callers::{Callers, KeyFile, KeyFileError};
use crate::config::{Config, InvalidConfig};
use crate::console;
use crate::endpoint::{Endpoint, UrlError};
use crate::explain::Explain;
use crate::ext_proc::{self, ExtProcConfig};
use crate::gateway::Gateway;
use crate::health;
use crate::history::History;
use crate::metrics::Metrics;
use crate::models::{Models, Tokenizers};
use crate::prompt::Prompts;
use crate::published::Published;
use crate::residency::{Nowhere, Residency};
use crate::server::Server;
use crate::upstream::Upstream;

/// A router at work. Dropping it ends it at once; [`Router::drain`] ends it properly.
#[derive(Debug)]
pub struct Router {
    gateway: Arc<Gateway>,
    server: Server,
    ext_proc: Option<SocketAddr>,
    admin: Admin,
    fabric: Option<Fabric>,
    _tasks: DropGuard,
    /// Ends what keeps the certificates.
    _keeping: Option<DropGuard>,
}

/// How it reaches the metadata group.
struct Metadata {
    client: MetadataClient,
    follower: Follower,
    fabric: Fabric,
}

/// Why a router was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The clients' address is in use or not ours.
    #[error("cannot bind the clients' address {addr}: choose another with `http = \"ip:port\"`")]
    Http {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The endpoint picker's address is in use or not ours.
    #[error("cannot bind the endpoint picker's address {addr}: choose another with `ext_proc.listen = \"ip:port\"`")]
    ExtProc {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// `metadata` without `identity`.
    #[error("metadata members are configured, but no identity: set identity.cert, identity.key and identity.ca")]
    NoIdentity,
    /// The files of the identity cannot be read.
    #[error(transparent)]
    IdentityFiles(#[from] ConfigError),
    /// The files of the identity are something else.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The fabric's socket.
    #[error(transparent)]
    Fabric(#[from] weft_transport::BindError),
    /// A model's folder.
    #[error("the files of model '{model}' cannot be used")]
    Model {
        /// Name in the configuration.
        model: String,
        /// Why.
        #[source]
        source: TokensError,
    },
    /// The file of API keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A static endpoint's URL.
    #[error(transparent)]
    Endpoint(#[from] UrlError),
    /// The path of the probe.
    #[error("health.path '{path}' is not a path: expected one such as /health")]
    HealthPath {
        /// As configured.
        path: String,
    },
}

impl Fault for BindError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Http { .. } | Self::ExtProc { .. } | Self::Admin(_) | Self::Fabric(_) => exit::UNAVAILABLE,
            _ => exit::CONFIG,
        }
    }
}

impl Router {
    /// Binds everything and serves. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first thing that is not as configured; nothing stays bound.
    pub async fn bind(config: Config, telemetry: &Telemetry) -> Result<Self, BindError> {
        if config.metadata.is_empty() {
            return Self::start(config, telemetry, Arc::new(Nowhere::new()), None).await;
        }
        let files = config.identity.clone().ok_or(BindError::NoIdentity)?;
        let pem = files.read()?;
        let credentials = Credentials::from(&Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?);
        let transport = weft_transport::Metrics::register(&telemetry.registry);
        let fabric = Fabric::bind(config.fabric, Profile::Control, &credentials, transport.clone())?;
        let client = MetadataClient::new(fabric.clone(), config.metadata.clone());
        let metrics = FollowerMetrics::register(&telemetry.registry);
        let follower = match config.follow_models.is_empty() {
            true => client.follow(Some(config.index_bytes), metrics),
            false => client.follow_models(config.follow_models.clone(), Some(config.index_bytes), metrics),
        };
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follower.clone().keep_revoked(credentials.clone())));
        let renewing = files.follow(move |pem| credentials.renew(&pem.cert, &pem.key, &pem.ca, &transport));
        tokio::spawn(stop.clone().run_until_cancelled_owned(renewing));
        let keeping = Some(stop.drop_guard());
        let metadata = Metadata { client, follower: follower.clone(), fabric };
        let router = Self::start(config, telemetry, Arc::new(follower), Some(metadata)).await?;
        Ok(Self { _keeping: keeping, ..router })
    }

    /// As [`Router::bind`], with a directory that is kept by somebody else.
    ///
    /// # Errors
    /// As [`Router::bind`].
    pub async fn bind_with(
        config: Config,
        telemetry: &Telemetry,
        residency: Arc<dyn Residency>,
    ) -> Result<Self, BindError> {
        Self::start(config, telemetry, residency, None).await
    }

    async fn start(
        config: Config,
        telemetry: &Telemetry,
        residency: Arc<dyn Residency>,
        metadata: Option<Metadata>,
    ) -> Result<Self, BindError> {
        config.check()?;
        let http_error = |source| BindError::Http { addr: config.http, source };
        let listener = TcpListener::bind(config.http).await.map_err(http_error)?;
        let probe_path: PathAndQuery =
            config.health.path.parse().map_err(|_| BindError::HealthPath { path: config.health.path.clone() })?;
        let updating = Updating::new(&config)?;
        let key_file = config.keys.file.as_deref().map(KeyFile::load).transpose()?;
        let follower = metadata.as_ref().map(|metadata| metadata.follower.clone());
        let callers =
            Callers::new(&config.keys, config.http, &config.cache_salt, key_file.as_ref(), follower.is_some());
        let rosters = residency.rosters();
        let stop = CancellationToken::new();
        let published = Published::new(
            &residency,
            &config.endpoints,
            usize::try_from(config.index_bytes.bytes()).unwrap_or(usize::MAX),
        );
        let residency = match published {
            Some(published) => {
                published.register(&telemetry.registry);
                published.follow(&stop);
                published
            }
            None => residency,
        };
        let gateway = Arc::new(Gateway {
            callers: Arc::new(callers),
            admission: Arc::new(Admission::new(
                config.admission.clone(),
                config.limits.requests_per_tenant,
                &telemetry.registry,
            )),
            explain: Explain::new(config.explained_requests),
            models: ArcSwap::from_pointee(updating.models(&rosters.borrow(), &Models::default())),
            fleet: Arc::new(Mutex::new(Fleet::new(config.policy, config.priors))),
            prompts: Prompts::new(residency, config.policy == Policy::Approximate),
            history: History::default(),
            upstream: Upstream::new(&config.limits),
            metrics: Arc::new(Metrics::register(&telemetry.registry, config.keys.counted_tenants)),
            slots: Arc::new(Semaphore::new(config.limits.requests)),
            limits: config.limits.clone(),
            draining: AtomicBool::new(false),
            debug_headers: config.debug_headers,
        });
        gateway.count_endpoints();
        let followed = metadata.as_ref().map(|metadata| (&metadata.client, &metadata.follower));
        let mut pages = console::pages(&config.name, &gateway, followed);
        pages.push(explain(&gateway));
        let admin = Admin::bind_with(config.admin, telemetry, hooks(&config.name, &gateway), pages).await?;
        let server = Server::start(listener, Arc::clone(&gateway), &config.limits).map_err(http_error)?;
        let ext_proc = match &config.ext_proc {
            Some(ExtProcConfig { listen }) => {
                let bind_error = |source| BindError::ExtProc { addr: *listen, source };
                let listener = TcpListener::bind(listen).await.map_err(bind_error)?;
                let addr = listener.local_addr().map_err(bind_error)?;
                ext_proc::serve(listener, Arc::clone(&gateway), stop.clone());
                Some(addr)
            }
            None => None,
        };
        let probing = health::probe(Arc::clone(&gateway), config.health, probe_path);
        tokio::spawn(stop.clone().run_until_cancelled_owned(probing));
        let following = Arc::clone(&gateway.callers).follow(key_file, follower);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        tokio::spawn(stop.clone().run_until_cancelled_owned(updating.run(rosters, Arc::clone(&gateway))));
        let fabric = metadata.map(|metadata| metadata.fabric);
        Ok(Self { gateway, server, ext_proc, admin, fabric, _tasks: stop.drop_guard(), _keeping: None })
    }

    /// Where clients come.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Where gateways come that forward by themselves, if they may.
    #[must_use]
    pub fn ext_proc_addr(&self) -> Option<SocketAddr> {
        self.ext_proc
    }

    /// Probes and metrics.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Takes no more requests, lets those in flight end for so long, cuts off the rest, and closes.
    pub async fn drain(self, within: Duration) {
        self.gateway.draining.store(true, Ordering::Relaxed);
        if !self.server.drain(within).await {
            warn!("requests were still in flight after {within:?}: cut off");
        }
        if let Some(fabric) = &self.fabric {
            fabric.close().await;
        }
    }
}

/// Keeps the models what the roster says.
struct Updating {
    fixed: Vec<Arc<Endpoint>>,
    config: Vec<crate::config::EndpointConfig>,
    tokenizers: Tokenizers,
}

impl Updating {
    fn new(config: &Config) -> Result<Self, BindError> {
        let files = |model: &crate::config::ModelConfig| match ModelFiles::load(&model.folder) {
            Ok(files) => Ok((model.name.clone(), Arc::new(files))),
            Err(source) => Err(BindError::Model { model: model.name.clone(), source }),
        };
        Ok(Self {
            fixed: Models::fixed(&config.endpoints)?,
            config: config.endpoints.clone(),
            tokenizers: config.models.iter().map(files).collect::<Result<_, _>>()?,
        })
    }

    fn models(&self, roster: &Roster, before: &Models) -> Models {
        Models::new(roster, &self.fixed, &self.config, &self.tokenizers, before)
    }

    async fn run(self, mut rosters: watch::Receiver<Arc<Roster>>, gateway: Arc<Gateway>) {
        while rosters.changed().await.is_ok() {
            let roster = Arc::clone(&rosters.borrow_and_update());
            let models = self.models(&roster, &gateway.models.load());
            gateway.fleet.lock().retain(|endpoint| models.endpoints().contains_key(endpoint));
            info!(models = ?models.names().collect::<Vec<_>>(), endpoints = models.endpoints().len(), "the roster changed");
            gateway.models.store(Arc::new(models));
            gateway.count_endpoints();
        }
    }
}

fn hooks(name: &Name, gateway: &Arc<Gateway>) -> Hooks {
    let (name, ready, state) = (name.clone(), Arc::clone(gateway), Arc::clone(gateway));
    Hooks { ready: Arc::new(move || ready.ready()), state: Arc::new(move || describe(&name, &state)) }
}

fn explain(gateway: &Arc<Gateway>) -> Page {
    let gateway = Arc::clone(gateway);
    let answer = move |request: String| {
        let models = gateway.models.load();
        let lives = |endpoint: &EndpointId| models.endpoints().contains_key(endpoint);
        let explained = gateway.explain.explain(&request, &lives).map(Content::Json);
        Box::pin(std::future::ready(explained)) as _
    };
    Page { path: "/explain/{request}", answer: Arc::new(answer) }
}

/// Endpoints, with what was learnt of them.
fn describe(name: &Name, gateway: &Gateway) -> serde_json::Value {
    let models = gateway.models.load();
    json!({
        "name": name,
        "models": models.names().collect::<Vec<_>>(),
        "endpoints": gateway.describe_endpoints(usize::MAX),
        "callers": gateway.callers.describe(),
        "in_flight": gateway.metrics.in_flight.get(),
        "draining": gateway.draining.load(Ordering::Relaxed),
    })
}
