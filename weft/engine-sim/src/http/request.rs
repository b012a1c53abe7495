//! Request bodies, and the refusals they may get.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use weft_tokens::{ModelFiles, TokensError};

use crate::engine::{EngineError, Job};

/// Which of the two APIs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

/// A request, understood.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) job: Job,
    pub(crate) model: String,
    /// `Some` for an answer in server-sent events.
    pub(crate) stream: Option<StreamOptions>,
}

/// `stream_options` of a request.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(expecting = "an object with include_usage")]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// What both APIs have besides the prompt, as far as it means something here. Sampling parameters are accepted and have
/// no effect: the model's answer is a function of the prompt.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with a model and a prompt")]
struct Body {
    model: String,
    #[serde(default)]
    max_tokens: Option<usize>,
    #[serde(default)]
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    ignore_eos: Option<bool>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    best_of: Option<u32>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    messages: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    cache_salt: Option<String>,
}

/// An answer that is an error, in OpenAI's form.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

/// Reads a request and makes its tokens.
pub(crate) fn parse(kind: Kind, bytes: &[u8], files: &ModelFiles, served: &[String]) -> Result<Request, Refused> {
    let body: Body = serde_json::from_slice(bytes)
        .map_err(|error| Refused::bad_request(format!("the body is not as expected: {error}")))?;
    if !served.contains(&body.model) {
        return Err(Refused::unknown_model(&body.model, served));
    }
    if [body.n, body.best_of].into_iter().flatten().any(|n| n != 1) {
        return Err(Refused::bad_request("n and best_of must be 1: send one request an answer".to_owned()));
    }
    if body.echo == Some(true) {
        return Err(Refused::bad_request("echo is not simulated: leave it out".to_owned()));
    }
    if kind == Kind::Chat && body.messages.is_some_and(|messages| messages.is_empty()) {
        return Err(Refused::bad_request("messages is empty: it must have at least one message".to_owned()));
    }
    let max_tokens = body.max_completion_tokens.or(body.max_tokens);
    if max_tokens == Some(0) {
        return Err(Refused::bad_request("max_tokens must be at least 1".to_owned()));
    }
    let prompt = match kind {
        Kind::Chat => files.chat_prompt(bytes)?,
        Kind::Completion => files.completion_prompt(bytes)?,
    };
    if prompt.is_empty() {
        return Err(Refused::bad_request("the prompt is empty: it must have at least one token".to_owned()));
    }
    let salt = body.cache_salt.filter(|salt| !salt.is_empty());
    let job = Job { prompt, salt, max_tokens, ignore_eos: body.ignore_eos.unwrap_or(false) };
    let stream = body.stream.unwrap_or(false).then(|| body.stream_options.unwrap_or_default());
    Ok(Request { job, model: body.model, stream })
}

impl Refused {
    fn bad_request(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", message }
    }

    fn unknown_model(asked: &str, served: &[String]) -> Self {
        let asked: String = asked.chars().take(80).collect();
        let message = format!("the model '{asked}' does not exist: this engine serves {}", served.join(", "));
        Self { status: StatusCode::NOT_FOUND, kind: "not_found_error", message }
    }

    pub(crate) fn unknown_path(path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        let message = format!(
            "there is no {path} here: expected /v1/chat/completions, /v1/completions, /v1/models, /health or /metrics"
        );
        Self { status: StatusCode::NOT_FOUND, kind: "not_found_error", message }
    }

    pub(crate) fn method(method: &Method, path: &str) -> Self {
        let message = format!("{path} does not take {method}: the header 'allow' says what it takes");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, kind: "invalid_request_error", message }
    }

    pub(crate) fn draining() -> Self {
        let message = "this engine is shutting down: try another replica".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "unavailable_error", message }
    }
}

impl From<TokensError> for Refused {
    fn from(error: TokensError) -> Self {
        match error {
            TokensError::Tokenizer(_) => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                kind: "internal_server_error",
                message: error.to_string(),
            },
            TokensError::Unsupported(what) => Self::bad_request(format!("a simulated engine cannot read it: {what}")),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

impl From<BytesRejection> for Refused {
    fn from(rejection: BytesRejection) -> Self {
        Self { status: rejection.status(), kind: "invalid_request_error", message: rejection.body_text() }
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        let (status, kind) = match error {
            EngineError::TooLong { .. } => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            EngineError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error"),
            EngineError::Corrupt(_) => (StatusCode::INTERNAL_SERVER_ERROR, "kv_mismatch_error"),
        };
        Self { status, kind, message: error.to_string() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({
            "error": {"message": self.message, "type": self.kind, "param": null, "code": self.status.as_u16()},
        });
        (self.status, Json(body)).into_response()
    }
}
