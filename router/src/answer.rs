//! What the router itself answers: errors in OpenAI's shape, the list of models, its health.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};
use serde_json::json;
use weft_policy::Why;

use crate::metrics::Outcome;
use crate::relay::Relay;

/// Body of an answer: the router's own, or an engine's on its way through.
pub(crate) type Body = Either<Full<Bytes>, Relay>;

/// A request that the router does not pass on, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("no API key: send one as 'Authorization: Bearer weft_…' or 'x-api-key: weft_…'")]
    NoKey,
    #[error("this API key is not known here: ask who runs this cluster for one")]
    WrongKey,
    #[error("this router has not heard yet which API keys there are: try again in a second")]
    KeysUntold,
    #[error("model '{asked}' is not served here; known models: {known}")]
    UnknownModel { asked: String, known: String },
    #[error(
        "there is no {path} here: expected /v1/chat/completions, /v1/completions, /v1/models, /tokenize, /detokenize, /rerank or another path under /v1/"
    )]
    UnknownPath { path: String },
    #[error("{path} takes {allowed} only")]
    Method { path: String, allowed: &'static str },
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("the body is encoded as '{encoding}': expected plain JSON, without a content-encoding header")]
    Encoding { encoding: String },
    #[error("the body did not arrive within {within:?}")]
    SlowBody { within: Duration },
    #[error("{in_flight} requests are in flight, which is the limit: try again in a second")]
    Overloaded { in_flight: usize },
    #[error("{in_flight} requests of this tenant are in flight, which is its limit: try again in a second")]
    TenantBusy { in_flight: usize },
    #[error("{}: try again in {} s", reason(*.why), seconds(*.retry_after))]
    NotLetThrough { why: Why, retry_after: Duration },
    #[error("no endpoint of model '{model}' is healthy: try again in a second")]
    NoEndpoint { model: String },
    #[error("endpoint {endpoint} failed before it answered: {reason}")]
    Upstream { endpoint: String, reason: String },
}

impl Refusal {
    /// Status, type and code, the last two as OpenAI's clients expect them.
    fn shape(&self) -> (StatusCode, &'static str, &'static str) {
        const BAD: &str = "invalid_request_error";
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, BAD, "invalid_request"),
            Self::NoKey | Self::WrongKey => (StatusCode::UNAUTHORIZED, BAD, "invalid_api_key"),
            Self::KeysUntold => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "keys_untold"),
            Self::UnknownModel { .. } => (StatusCode::NOT_FOUND, BAD, "model_not_found"),
            Self::UnknownPath { .. } => (StatusCode::NOT_FOUND, BAD, "unknown_url"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, BAD, "method_not_allowed"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, BAD, "body_too_large"),
            Self::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, BAD, "unsupported_encoding"),
            Self::SlowBody { .. } => (StatusCode::REQUEST_TIMEOUT, BAD, "body_timeout"),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "overloaded"),
            Self::TenantBusy { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded"),
            Self::NotLetThrough { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded"),
            Self::NoEndpoint { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "no_endpoint"),
            Self::Upstream { .. } => (StatusCode::BAD_GATEWAY, "server_error", "endpoint_failed"),
        }
    }

    /// How a request ended that was refused so.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Upstream { .. } => Outcome::Failed,
            Self::NotLetThrough { .. } | Self::TenantBusy { .. } => Outcome::Refused,
            refusal if refusal.shape().0.is_client_error() => Outcome::BadRequest,
            _ => Outcome::Refused,
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let (status, kind, code) = self.shape();
        let mut response = json(status, &error(kind, code, &self.to_string()));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let after = if let Self::NotLetThrough { retry_after, .. } = self { seconds(retry_after) } else { 1 };
            response.headers_mut().insert(RETRY_AFTER, after.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Method { allowed, .. } = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Full => "as many requests wait for an engine as may",
        Why::Rate => "this tenant has used up its tokens",
        Why::Deadline => "an engine would take this request too late",
    }
}

/// As `Retry-After` says it: whole seconds, and never none.
fn seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)).max(1)
}

/// Ends a stream whose engine died: an event of its own, whatever the event before it was cut in.
pub(crate) fn error_event(endpoint: &str, reason: &str) -> Bytes {
    let message = format!("endpoint {endpoint} failed in the middle of its answer: {reason}");
    format!("\n\ndata: {}\n\n", error("server_error", "endpoint_failed", &message)).into()
}

/// `GET /v1/models`.
pub(crate) fn models<'a>(names: impl Iterator<Item = &'a str>) -> Response<Body> {
    let model = |name| json!({"id": name, "object": "model", "created": 0, "owned_by": "weft"});
    json(StatusCode::OK, &json!({"object": "list", "data": names.map(model).collect::<Vec<_>>()}))
}

/// `GET /health`: 200 while there is somebody to pass requests to.
pub(crate) fn health(ready: Result<(), String>) -> Response<Body> {
    match ready {
        Ok(()) => json(StatusCode::OK, &json!({"status": "ok"})),
        Err(reason) => json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "unavailable", "reason": reason})),
    }
}

fn error(kind: &str, code: &str, message: &str) -> serde_json::Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::<Bytes>::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
