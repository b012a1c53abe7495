//! Answers, whole or as server-sent events, in the shapes of both APIs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use weft_tokens::{ModelFiles, TokensError};

use super::request::Kind;
use crate::engine::Sequence;
use crate::usage::Usage;

/// Writes the answer to one request.
#[derive(Debug)]
pub(crate) struct Reply {
    kind: Kind,
    id: String,
    model: String,
    created: u64,
    files: Arc<ModelFiles>,
}

/// A chunk, or a whole answer.
#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(flatten)]
    content: Content<'a>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    Text(&'a str),
    Message(Message<'a>),
    Delta(Message<'a>),
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    content: &'a str,
}

/// How far a stream is.
enum Progress {
    Tokens(Box<Sequence>),
    Usage(Usage),
    Done,
    Closed,
}

impl Reply {
    pub(crate) fn new(kind: Kind, number: u64, endpoint: &str, model: String, files: Arc<ModelFiles>) -> Self {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { kind, id: format!("{prefix}-{endpoint}-{number}"), model, created, files }
    }

    /// One JSON object with the whole answer.
    pub(crate) async fn whole(self, mut sequence: Sequence) -> Response {
        let mut tokens = Vec::new();
        while let Some(more) = sequence.next().await {
            tokens.extend(more);
        }
        let text = match self.files.decode(&tokens) {
            Ok(text) => text,
            Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        let content = match self.kind {
            Kind::Chat => Content::Message(Message { role: Some("assistant"), content: &text }),
            Kind::Completion => Content::Text(&text),
        };
        let finish_reason = sequence.finish().map(|finish| finish.as_str());
        let choices = vec![Choice { index: 0, content, finish_reason }];
        let object = if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
        Json(self.envelope(object, choices, Some(sequence.usage))).into_response()
    }

    /// Events as tokens come. Dropping the body drops the sequence, which is how a client cancels.
    pub(crate) fn stream(self, sequence: Sequence, include_usage: bool) -> Response {
        let events =
            stream::try_unfold((self, Progress::Tokens(Box::new(sequence))), move |(reply, progress)| async move {
                let (event, progress) = match progress {
                    Progress::Tokens(mut sequence) => {
                        let tokens = sequence.next().await.unwrap_or_default();
                        let event = reply.chunk(&sequence, &tokens)?;
                        let progress = match sequence.finish() {
                            None => Progress::Tokens(sequence),
                            Some(_) if include_usage => Progress::Usage(sequence.usage),
                            Some(_) => Progress::Done,
                        };
                        (event, progress)
                    }
                    Progress::Usage(usage) => {
                        (event(&reply.envelope(reply.chunk_object(), Vec::new(), Some(usage))), Progress::Done)
                    }
                    Progress::Done => (Bytes::from_static(b"data: [DONE]\n\n"), Progress::Closed),
                    Progress::Closed => return Ok(None),
                };
                Ok::<_, TokensError>(Some((event, (reply, progress))))
            });
        let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
        (headers, Body::from_stream(events)).into_response()
    }

    fn chunk(&self, sequence: &Sequence, tokens: &[u32]) -> Result<Bytes, TokensError> {
        let text = self.files.decode(tokens)?;
        let first = sequence.usage.completion_tokens == tokens.len() as u64;
        let content = match self.kind {
            Kind::Chat => Content::Delta(Message { role: first.then_some("assistant"), content: &text }),
            Kind::Completion => Content::Text(&text),
        };
        let finish_reason = sequence.finish().map(|finish| finish.as_str());
        let choices = vec![Choice { index: 0, content, finish_reason }];
        Ok(event(&self.envelope(self.chunk_object(), choices, None)))
    }

    fn chunk_object(&self) -> &'static str {
        if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn envelope<'a>(&'a self, object: &'static str, choices: Vec<Choice<'a>>, usage: Option<Usage>) -> Envelope<'a> {
        Envelope { id: &self.id, object, created: self.created, model: &self.model, choices, usage }
    }
}

fn event(envelope: &Envelope<'_>) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    serde_json::to_writer(&mut bytes, envelope).expect("strings and numbers are always JSON, and memory takes them");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
