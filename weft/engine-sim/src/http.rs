//! The OpenAI-compatible surface, with vLLM's metrics and health check.
//!
//! A request is answered only when its first token is there, streaming or not: what fails before that is an HTTP status,
//! which a router can act on.

mod reply;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use weft_tokens::ModelFiles;

use crate::engine::Engine;
use reply::Reply;
use request::{Kind, Refused};

/// Largest request body: a million token ids written in decimal, or four million characters, and room for the rest.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    pub(crate) engine: Arc<Engine>,
    pub(crate) files: Arc<ModelFiles>,
    pub(crate) registry: Registry,
    /// Requests read at once: tokenising is pure CPU work, and more of it than cores makes all of it late.
    pub(crate) cores: Arc<Semaphore>,
    /// Requests answered, to number the next.
    pub(crate) answered: Arc<AtomicU64>,
    /// Cancelled when the engine stops taking requests.
    pub(crate) draining: CancellationToken,
}

impl Surface {
    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(completions))
            .route("/v1/models", get(models))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .fallback(unknown)
            .method_not_allowed_fallback(async |method: Method, uri: Uri| Refused::method(&method, uri.path()))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    async fn answer(self, kind: Kind, body: Result<Bytes, BytesRejection>) -> Result<Response, Refused> {
        let body = body?;
        if self.draining.is_cancelled() {
            return Err(Refused::draining());
        }
        let (files, served) = (self.files.clone(), self.engine.config.served_models.clone());
        let core = self.cores.clone().acquire_owned().await.expect("the semaphore is never closed");
        let parsed = tokio::task::spawn_blocking(move || {
            // Given back when the work is done, not when the client hangs up.
            let _core = core;
            request::parse(kind, &body, &files, &served)
        });
        let parsed = parsed.await;
        let request = parsed.expect("parsing a request does not panic")?;
        let sequence = self.engine.prefill(request.job).await?;
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        let endpoint = self.engine.config.endpoint.name().as_str();
        let reply = Reply::new(kind, number, endpoint, request.model, self.files);
        match request.stream {
            Some(options) => Ok(reply.stream(sequence, options.include_usage)),
            None => Ok(reply.whole(sequence).await),
        }
    }
}

async fn chat(State(surface): State<Surface>, body: Result<Bytes, BytesRejection>) -> Result<Response, Refused> {
    surface.answer(Kind::Chat, body).await
}

async fn completions(State(surface): State<Surface>, body: Result<Bytes, BytesRejection>) -> Result<Response, Refused> {
    surface.answer(Kind::Completion, body).await
}

async fn unknown(uri: Uri) -> Refused {
    Refused::unknown_path(uri.path())
}

async fn models(State(surface): State<Surface>) -> Response {
    let config = &surface.engine.config;
    let model = |name: &String| {
        json!({
            "id": name, "object": "model", "created": 0, "owned_by": "weft", "root": name, "parent": null,
            "max_model_len": config.device_blocks() * config.model_key.block_tokens.tokens(),
        })
    };
    let data: Vec<_> = config.served_models.iter().map(model).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn health(State(surface): State<Surface>) -> StatusCode {
    if surface.draining.is_cancelled() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn metrics(State(surface): State<Surface>) -> Response {
    match TextEncoder::new().encode_to_string(&surface.registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
