//! One streamed request to an OpenAI-compatible server, timed.
//!
//! Only the events that matter are parsed: the first with content tells the time to first token, the last with `usage`
//! tells where the prompt came from. Parsing every event would make the client the bottleneck of its own measurement.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use weft_engine_sim::WeftUsage;

/// By which a router of ours knows a request.
const REQUEST_ID: &str = "x-weft-request-id";
/// Longest event: a usage object is under 1 KiB, a token's chunk too.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// As much of an error body as is read for its message.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Sends requests to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    authorization: Option<String>,
}

/// A request that was answered to its end. Times count from the instant at which it was due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) first_token: Duration,
    pub(crate) last_token: Duration,
    pub(crate) usage: Usage,
}

/// The `usage` object, with weft's extension where the engine has it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    pub(crate) weft: Option<WeftUsage>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl Usage {
    /// Prompt tokens that were not computed.
    pub(crate) fn cached_tokens(&self) -> u64 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0)
    }
}

/// Why a request failed; its text is what failures are counted by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Connection(String),
    #[error("status {}: {}", .status.as_u16(), without_numbers(.message))]
    Status { status: StatusCode, message: String },
    #[error("answer broke off: {0}")]
    BrokenOff(String),
    #[error("answer ended without usage and [DONE]")]
    Unfinished,
    #[error("no end within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Client {
    pub(crate) fn new(api_key: Option<&str>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let authorization = api_key.map(|key| format!("Bearer {key}"));
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector), authorization }
    }

    /// Sends `body`, which asks for a stream with usage, and reads the answer.
    pub(crate) async fn ask(
        &self,
        uri: &Uri,
        body: Bytes,
        due: Instant,
        within: Duration,
    ) -> Result<Answered, Failure> {
        self.ask_known(uri, body, due, within).await.map(|(_, answered)| answered)
    }

    /// As [`Client::ask`], with the id under which the router knows the request; empty if it is none of ours.
    pub(crate) async fn ask_known(
        &self,
        uri: &Uri,
        body: Bytes,
        due: Instant,
        within: Duration,
    ) -> Result<(String, Answered), Failure> {
        match timeout_at(due + within, self.stream(uri, body, due)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout(within)),
        }
    }

    async fn stream(&self, uri: &Uri, body: Bytes, due: Instant) -> Result<(String, Answered), Failure> {
        let mut request = Request::builder().method(Method::POST).uri(uri).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(body)).map_err(|error| Failure::Connection(error.to_string()))?;
        let response = self.pool.request(request).await.map_err(|error| Failure::Connection(causes(&error)))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(Failure::Status { status, message: message(response.into_body()).await });
        }
        let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let mut reading = Reading::default();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::BrokenOff(causes(&error)))?;
            if let Ok(bytes) = frame.into_data() {
                reading.take(&bytes, due)?;
            }
        }
        reading.finish().map(|answered| (id, answered))
    }
}

/// An answer as far as it was read.
#[derive(Default)]
struct Reading {
    rest: BytesMut,
    first: Option<Duration>,
    last: Duration,
    usage: Option<Usage>,
    done: bool,
}

impl Reading {
    fn take(&mut self, bytes: &[u8], due: Instant) -> Result<(), Failure> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let event = self.rest.split_to(end + 2);
            if let Some(data) = event.strip_prefix(b"data: ") {
                self.event(data.trim_ascii(), due)?;
            }
        }
        match self.rest.len() {
            0..=EVENT_BYTES_MAX => Ok(()),
            got => Err(Failure::BrokenOff(format!("an event of over {got} bytes"))),
        }
    }

    fn event(&mut self, data: &[u8], due: Instant) -> Result<(), Failure> {
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        if self.first.is_some() && !contains(data, b"\"usage\":{") && !contains(data, b"\"error\"") {
            self.last = due.elapsed();
            return Ok(());
        }
        let event: Event = serde_json::from_slice(data).map_err(|error| Failure::BrokenOff(error.to_string()))?;
        if let Some(error) = event.error {
            return Err(Failure::BrokenOff(error.message));
        }
        match event.usage {
            Some(usage) => self.usage = Some(usage),
            None => {
                self.last = due.elapsed();
                self.first.get_or_insert(self.last);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Answered, Failure> {
        match (self.first, self.usage, self.done) {
            (Some(first_token), Some(usage), true) => Ok(Answered { first_token, last_token: self.last, usage }),
            _ => Err(Failure::Unfinished),
        }
    }
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

/// Failures that differ in numbers only are of one kind, and are counted as one.
fn without_numbers(message: &str) -> String {
    let words = message.split_inclusive(|c: char| !c.is_ascii_digit()).map(|part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < part.len() { format!("N{rest}") } else { part.to_owned() }
    });
    words.collect()
}

/// The message of an error body in OpenAI's form, or its text.
async fn message(body: Incoming) -> String {
    #[derive(Deserialize)]
    struct Outer {
        error: ErrorBody,
    }
    match Limited::new(body, ERROR_BYTES_MAX).collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let text = || String::from_utf8_lossy(&bytes).chars().take(200).collect();
            serde_json::from_slice::<Outer>(&bytes).map_or_else(|_| text(), |outer| outer.error.message)
        }
        Err(error) => error.to_string(),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    weft_service::run::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"text\":\" a\"}]}\n\n",
        "data: {\"choices\":[{\"text\":\" b\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":2,",
        "\"prompt_tokens_details\":{\"cached_tokens\":64},\"weft\":{\"host\":64,\"computed\":6}}}\n\n",
        "data: [DONE]\n\n",
    );

    fn read(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<Answered, Failure> {
        let (mut reading, due) = (Reading::default(), Instant::now());
        for piece in pieces {
            reading.take(piece.as_ref(), due)?;
        }
        reading.finish()
    }

    #[tokio::test]
    async fn events_are_read_however_they_are_cut() {
        for size in [1, 7, STREAM.len()] {
            let answered = read(STREAM.as_bytes().chunks(size)).unwrap();
            assert_eq!((answered.usage.prompt_tokens, answered.usage.cached_tokens()), (70, 64));
            assert_eq!(answered.usage.weft.unwrap().host, 64);
            assert!(answered.first_token <= answered.last_token);
        }
    }

    #[test]
    fn failures_that_differ_in_numbers_are_of_one_kind() {
        let message = "need 1308 tokens, the device holds 1024".to_owned();
        let failure = Failure::Status { status: StatusCode::BAD_REQUEST, message };
        assert_eq!(failure.to_string(), "status 400: need N tokens, the device holds N");
    }

    #[tokio::test]
    async fn an_answer_that_stops_early_or_turns_into_an_error_is_a_failure() {
        let cut = &STREAM[..STREAM.len() - "data: [DONE]\n\n".len()];
        assert!(matches!(read([cut].iter()), Err(Failure::Unfinished)));
        let (first, _) = STREAM.split_once("\n\n").unwrap();
        let error = format!("{first}\n\ndata: {{\"error\":{{\"message\":\"gone\"}}}}\n\n");
        assert_eq!(read([error].iter()).unwrap_err().to_string(), "answer broke off: gone");
    }
}
