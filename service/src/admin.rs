//! Admin HTTP, the same routes in every role, all of them read-only:
//!
//! | route | answers |
//! |---|---|
//! | `/live` | 200 while the process runs: do not kill me |
//! | `/ready` | 200 when it would serve a request now, else 503 with the reason |
//! | `/metrics` | Prometheus text |
//! | `/log-level` | the filter in force |
//! | `/state` | the role's state as JSON, for people and `weft status`; never prompts or keys |
//! | a [`Page`] | what else the role tells or shows, such as a router of one request |

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::telemetry::Telemetry;

/// What a role tells of itself.
#[derive(Clone)]
pub struct Hooks {
    /// `Err(reason)` while it would not serve.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Its state.
    pub state: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// A route of the role's own.
#[derive(Clone)]
pub struct Page {
    /// Path; one part of it may be a name, in braces: `/explain/{request}`.
    pub path: &'static str,
    /// What there is of that name, which is empty if the path has none; `None`: nothing, which is 404.
    pub answer: Arc<Answer>,
}

/// What a page answers to a name.
pub type Answer = dyn Fn(String) -> Pin<Box<dyn Future<Output = Option<Content>> + Send>> + Send + Sync;

/// What is on a page.
#[derive(Clone, Debug)]
pub enum Content {
    /// Facts.
    Json(serde_json::Value),
    /// A file that is part of the program.
    File {
        /// Its media type.
        media_type: &'static str,
        /// All of it.
        text: &'static str,
    },
}

/// A page may load what this port serves, and nothing else: what it shows was written by others.
const CONTENT_POLICY: &str =
    "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// The admin port could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind the admin port {addr}: choose another with `admin = \"ip:port\"`")]
pub struct AdminError {
    /// Where.
    addr: SocketAddr,
    /// Why.
    #[source]
    source: std::io::Error,
}

/// A bound admin port; dropping it stops it.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Admin {
    /// Binds and serves.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub async fn bind(addr: SocketAddr, telemetry: &Telemetry, hooks: Hooks) -> Result<Self, AdminError> {
        Self::bind_with(addr, telemetry, hooks, Vec::new()).await
    }

    /// As [`Admin::bind`], with pages of the role's own.
    ///
    /// # Errors
    /// As [`Admin::bind`].
    pub async fn bind_with(
        addr: SocketAddr,
        telemetry: &Telemetry,
        hooks: Hooks,
        pages: Vec<Page>,
    ) -> Result<Self, AdminError> {
        let error = |source| AdminError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(error)?;
        let addr = listener.local_addr().map_err(error)?;
        let role = pages.into_iter().fold(Router::new(), |routes, Page { path, answer }| {
            routes.route(path, get(async move |name: Option<Path<String>>| page(answer, name).await))
        });
        let routes = role
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/log-level", get(async |State(shared): State<Shared>| format!("{}\n", shared.telemetry.level())))
            .route("/state", get(async |State(shared): State<Shared>| axum::Json((shared.hooks.state)())))
            .with_state(Shared { telemetry: telemetry.clone(), hooks });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%addr, "admin port stopped: {error}");
            }
        });
        Ok(Self { addr, server })
    }

    /// Bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Shared {
    telemetry: Telemetry,
    hooks: Hooks,
}

async fn ready(State(shared): State<Shared>) -> Response {
    match (shared.hooks.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn page(answer: Arc<Answer>, name: Option<Path<String>>) -> Response {
    match (*answer)(name.map(|Path(name)| name).unwrap_or_default()).await {
        Some(Content::Json(facts)) => axum::Json(facts).into_response(),
        Some(Content::File { media_type, text }) => {
            let headers = [
                (header::CONTENT_TYPE, media_type),
                (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "nothing is known of it here, or no longer\n").into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&shared.telemetry.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}
