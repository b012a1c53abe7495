//! An engine replica as a process serves it: bind, serve, drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_node_client::{AttachConfig, AttachError, NodeClient};
use weft_service::exit::{self, Fault};
use weft_service::telemetry::Telemetry;
use weft_tokens::{ModelFiles, TokensError};
use weft_types::Incarnation;

use crate::answer::Answers;
use crate::config::{Config, InvalidConfig};
use crate::engine::Engine;
use crate::http::Surface;
use crate::metrics::Metrics;

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A setting that cannot be.
    #[error("configuration")]
    Config(#[from] InvalidConfig),
    /// The tokenizer or the template could not be read.
    #[error("model folder {folder}", folder = .folder.display())]
    Model {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: TokensError,
    },
    /// The tokenizer has no tokens to answer with.
    #[error(
        "model folder {folder}: no token of its tokenizer survives as text, so the simulated model has no words; \
         use a tokenizer that splits words at spaces", folder = .0.display()
    )]
    NoWords(PathBuf),
    /// The HTTP address is not to be had.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The node refused, or is not there.
    #[error("cannot use the node")]
    Attach(#[from] AttachError),
    /// A metric is registered already: two engines in one process share a registry.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Fault for BindError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Model { .. } | Self::NoWords(_) => exit::CONFIG,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// A simulated engine that serves.
#[derive(Debug)]
pub struct EngineSim {
    addr: SocketAddr,
    url: String,
    engine: Arc<Engine>,
    node: Option<NodeClient>,
    draining: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl EngineSim {
    /// Reads the model, listens, attaches to the node and serves.
    ///
    /// # Errors
    /// What was missing; then nothing is left behind.
    pub async fn bind(config: Config, telemetry: &Telemetry) -> Result<Self, BindError> {
        config.check()?;
        let folder = &config.model_folder;
        let files = ModelFiles::load(folder).map_err(|source| BindError::Model { folder: folder.clone(), source })?;
        let answers = Answers::of(&files).ok_or_else(|| BindError::NoWords(folder.clone()))?;
        let listen = |source| BindError::Listen { addr: config.addr, source };
        let listener = TcpListener::bind(config.addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let url = config.url.clone().unwrap_or_else(|| format!("http://{addr}"));
        let metrics = Metrics::register(&telemetry.registry, &config.served_models[0])?;
        let node = attach(&config, &files, &url).await?;

        let engine = Engine::new(config, answers, metrics, node.clone());
        let draining = CancellationToken::new();
        let surface = Surface {
            engine: engine.clone(),
            files: Arc::new(files),
            registry: telemetry.registry.clone(),
            cores: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            answered: Arc::default(),
            draining: draining.clone(),
        };
        let listener = listener.tap_io(|stream| {
            // A token is a small packet that must not wait for the next; without it the engine is only slower.
            let _ = stream.set_nodelay(true);
        });
        let serve = axum::serve(listener, surface.routes()).with_graceful_shutdown(draining.clone().cancelled_owned());
        let server = tokio::spawn(serve.into_future());
        info!(%addr, endpoint = %engine.config.endpoint, node = node.is_some(), "simulated engine serves");
        Ok(Self { addr, url, engine, node, draining, server })
    }

    /// Bound address of the OpenAI API.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Base URL as routers reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes no more requests, ends those that run, stores what is queued, and leaves the node; what is not done `within`
    /// that time is cut off.
    pub async fn drain(self, within: Duration) {
        let end = Instant::now() + within;
        self.draining.cancel();
        let abort = self.server.abort_handle();
        if timeout(within, self.server).await.is_err() {
            warn!("requests still ran after {within:?}: they are cut off");
            abort.abort();
        }
        if timeout_at(end, self.engine.close()).await.is_err() {
            warn!("blocks were still to be stored after {within:?}: they are dropped");
        }
        if let Some(node) = self.node {
            node.detach().await;
        }
    }
}

async fn attach(config: &Config, files: &ModelFiles, url: &str) -> Result<Option<NodeClient>, AttachError> {
    let Some(socket) = config.node_socket.clone() else { return Ok(None) };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since_1970.as_millis()).expect("a clock this side of half a billion years");
    let attach = AttachConfig {
        socket,
        endpoint: config.endpoint.clone(),
        url: url.to_owned(),
        incarnation: Incarnation::new(config.incarnation.unwrap_or(now)),
        contract: config.contract(files.tokenizer_digest(), files.template_digest()),
        deadline: config.node_deadline,
    };
    NodeClient::attach(attach).await.map(Some)
}
