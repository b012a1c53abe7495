//! One request: read, understood, sent where it is cheapest, and answered.

mod attempt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, request};
use http_body_util::{BodyExt, Either, LengthLimitError, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weft_policy::Fleet;

use self::attempt::Routed;
pub(crate) use self::attempt::Routing;
use crate::admission::Admission;
use crate::answer::{self, Body, Refusal};
use crate::callers::{Caller, Callers, strip_keys};
use crate::config::Limits;
use crate::endpoint::{ENDPOINT_HEADER, Endpoint};
use crate::explain::Explain;
use crate::history::{self, History};
use crate::metrics::{Metrics, Outcome};
use crate::models::{Model, Models};
use crate::prompt::{Prompt, Prompts, Surface};
use crate::relay::{Exchange, Relay};
use crate::scan::Scan;
use crate::upstream::{Arrived, Ask, Bodies, Upstream, strip_hop_headers, strip_request_headers};

pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-weft-request-id");
/// A caller's name for requests that belong together: among endpoints that cost the same, they stay at one.
const SESSION_HEADER: HeaderName = HeaderName::from_static("x-session-id");
const MATCHED_HEADER: HeaderName = HeaderName::from_static("x-weft-matched-tokens");

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) callers: Arc<Callers>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) explain: Explain,
    pub(crate) models: ArcSwap<Models>,
    pub(crate) fleet: Arc<Mutex<Fleet>>,
    pub(crate) prompts: Prompts,
    pub(crate) history: History,
    pub(crate) upstream: Upstream,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) draining: AtomicBool,
    pub(crate) debug_headers: bool,
}

impl Gateway {
    /// What is read, in limits of [`discard`], of a body whose sender is not known.
    const STRANGERS_BYTES_MAX: u64 = 256 << 10;

    /// Answers one request, always. Dropping the future gives the request up, at the engine too.
    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        if matches!((request.method(), request.uri().path()), (&Method::GET | &Method::HEAD, "/health")) {
            return answer::health(self.ready());
        }
        match self.callers.identify(request.headers()) {
            Ok(caller) => self.serve_to(caller, request).await,
            Err(refusal) => {
                self.metrics.ended(Outcome::Unauthorized);
                discard(request.into_body(), Self::STRANGERS_BYTES_MAX, self.limits.body_within).await;
                refusal.into_response()
            }
        }
    }

    async fn serve_to(&self, caller: Arc<Caller>, request: Request<Incoming>) -> Response<Body> {
        self.metrics.called(&caller);
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, "/v1/models") => answer::models(self.models.load().names()),
            (&Method::POST, "/v1/chat/completions") => self.exchange(Surface::Chat, caller, request).await,
            (&Method::POST, "/v1/completions") => self.exchange(Surface::Completion, caller, request).await,
            (&Method::POST, "/tokenize" | "/detokenize" | "/rerank") => {
                self.exchange(Surface::Other, caller, request).await
            }
            (_, "/v1/chat/completions" | "/v1/completions" | "/tokenize" | "/detokenize" | "/rerank") => {
                Refusal::Method { path: path.to_owned(), allowed: "POST" }.into_response()
            }
            (_, "/health" | "/v1/models") => {
                Refusal::Method { path: path.to_owned(), allowed: "GET, HEAD" }.into_response()
            }
            (_, path) if passes(path) => self.exchange(Surface::Other, caller, request).await,
            (_, path) => Refusal::UnknownPath { path: path.to_owned() }.into_response(),
        }
    }

    /// Somebody would answer a request that came now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("shutting down".to_owned());
        }
        let models = self.models.load();
        match models.endpoints().values().any(|endpoint| endpoint.is_healthy()) {
            true => Ok(()),
            false => Err(format!("none of {} endpoints is healthy", models.endpoints().len())),
        }
    }

    /// Endpoints, the first so many by name, with what was learnt of them.
    pub(crate) fn describe_endpoints(&self, most: usize) -> Vec<serde_json::Value> {
        let (models, learnt) = (self.models.load(), self.fleet.lock().view());
        let endpoint = |endpoint: &Arc<Endpoint>| {
            json!({
                "name": endpoint.id,
                "url": endpoint.url,
                "healthy": endpoint.is_healthy(),
                "learnt": learnt.iter().find(|view| view.endpoint == endpoint.id),
            })
        };
        models.endpoints().values().take(most).map(endpoint).collect()
    }

    /// Shows in the metrics how many endpoints are healthy.
    pub(crate) fn count_endpoints(&self) {
        let models = self.models.load();
        let healthy = models.endpoints().values().filter(|endpoint| endpoint.is_healthy()).count();
        self.metrics.endpoints(healthy, models.endpoints().len() - healthy);
    }

    async fn exchange(&self, surface: Surface, caller: Arc<Caller>, request: Request<Incoming>) -> Response<Body> {
        let mut exchange = match self.enter(&caller) {
            Ok(exchange) => exchange,
            Err(refusal) => return refusal.into_response(),
        };
        match self.route(surface, &caller, request, &mut exchange).await {
            Ok(routed) => self.pass_on(routed, exchange),
            Err(refusal) => {
                exchange.outcome = refusal.outcome();
                refusal.into_response()
            }
        }
    }

    /// Lets a request in, or counts it as refused.
    pub(crate) fn enter(&self, caller: &Caller) -> Result<Exchange, Refusal> {
        let entered = self.admission.admit(caller).and_then(|admitted| {
            let overloaded = Refusal::Overloaded { in_flight: self.limits.requests };
            let permit = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| overloaded)?;
            Ok(Exchange::begin(&self.metrics, permit, admitted))
        });
        entered.inspect_err(|_| self.metrics.ended(Outcome::Refused))
    }

    async fn route(
        &self,
        surface: Surface,
        caller: &Arc<Caller>,
        request: Request<Incoming>,
        exchange: &mut Exchange,
    ) -> Result<Routed, Refusal> {
        let (head, body) = request.into_parts();
        let body = self.read_body(&head, body).await?;
        let routing = self.understand(surface, caller, &head.headers, &body, exchange).await?;
        let ask = ask(head, routing.bodies.clone(), &routing.id)?;
        self.attempt(routing, ask, exchange).await
    }

    /// Finds out what a request wants, and waits until it may go to an engine.
    pub(crate) async fn understand(
        &self,
        surface: Surface,
        caller: &Arc<Caller>,
        headers: &HeaderMap,
        body: &Bytes,
        exchange: &mut Exchange,
    ) -> Result<Routing, Refusal> {
        let whole = Instant::now();
        let models = self.models.load_full();
        let scan = Scan::of(surface, headers, body)?;
        let model = Arc::clone(named(&models, &scan)?);
        let tokens = Prompt::tokens_by_size(body);
        exchange.passes(self.admission.pass(caller, headers, tokens).await?);
        let let_through = Instant::now();
        let prompt = self.prompts.read(surface, &model, body, &scan, caller).await?;
        let id = format!("{:016x}", rand::random::<u64>());
        let salt = Some(caller.salt()).filter(|salt| !salt.is_empty());
        let bodies = Bodies { salted: scan.salted(body, salt), plain: scan.salted(body, None) };
        let space = history::space(&model.name, caller);
        let session = headers.get(SESSION_HEADER).map(|name| history::session(space, name.as_bytes()));
        let (streamed, caller) = (scan.stream, Arc::clone(caller));
        Ok(Routing { id, caller, model, prompt, space, session, streamed, bodies, whole, let_through })
    }

    async fn read_body(&self, head: &request::Parts, mut body: Incoming) -> Result<Bytes, Refusal> {
        if let Some(encoding) = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(Refusal::Encoding { encoding: brief(&String::from_utf8_lossy(encoding.as_bytes())) });
        }
        let bytes_max = self.limits.body.bytes();
        let too_large = Refusal::TooLarge { bytes_max };
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let within = self.limits.body_within;
        if announced.is_some_and(|length| length > bytes_max) {
            if !head.headers.contains_key(EXPECT) {
                discard(body, bytes_max, within).await;
            }
            return Err(too_large);
        }
        let limited = Limited::new(&mut body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
        match timeout(within, limited.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                discard(body, bytes_max, within).await;
                Err(too_large)
            }
            Ok(Err(error)) => Err(Refusal::BadRequest(format!("the body broke off: {error}"))),
            Err(_) => Err(Refusal::SlowBody { within }),
        }
    }

    fn pass_on(&self, routed: Routed, exchange: Exchange) -> Response<Body> {
        let Routed { id, endpoint, terms, prompt_tokens, streamed, whole, arrived } = routed;
        let Arrived { mut head, first, rest } = arrived;
        strip_hop_headers(&mut head.headers);
        head.headers.insert(ENDPOINT_HEADER, endpoint.label.clone());
        head.headers
            .insert(REQUEST_ID_HEADER, HeaderValue::from_str(&id).expect("hexadecimal digits are visible ASCII"));
        if self.debug_headers {
            head.headers.insert(MATCHED_HEADER, prompt_tokens.saturating_sub(terms.computed_tokens).into());
        }
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        let events = content_type.starts_with(b"text/event-stream");
        if streamed && events {
            exchange.first_token();
            self.metrics.first_byte(whole.elapsed());
        }
        let relay = Relay::new(first, rest, events, endpoint, exchange, self.limits.endpoint_stall);
        Response::from_parts(head, Either::Right(relay))
    }
}

/// What stays below `/v1/` at whoever reads it: `/v1/../metrics` of an engine is not for clients.
fn passes(path: &str) -> bool {
    let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    path.starts_with("/v1/") && !path.split('/').any(dots)
}

/// The model that a body names.
fn named<'m>(models: &'m Models, scan: &Scan<'_>) -> Result<&'m Arc<Model>, Refusal> {
    let model = match &scan.model {
        Some(name) => models.get(name),
        None => models.only(),
    };
    let known = || models.names().collect::<Vec<_>>().join(", ");
    match (model, &scan.model) {
        (Some(model), _) => Ok(model),
        (None, Some(asked)) => Err(Refusal::UnknownModel { asked: brief(asked), known: known() }),
        (None, None) => Err(Refusal::BadRequest(format!("name a model in the body; known models: {}", known()))),
    }
}

/// Takes in a body that is refused, as far as is reasonable: most clients send all of it before they read an answer, and
/// would see a broken connection instead of the reason.
async fn discard(body: Incoming, bytes_max: u64, within: Duration) {
    /// Bytes that are taken in, in limits.
    const LIMITS_MAX: u64 = 4;
    let mut body = Limited::new(body, usize::try_from(bytes_max.saturating_mul(LIMITS_MAX)).unwrap_or(usize::MAX));
    let frames = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whatever is left breaks the connection, as it would have without this.
    let _ = timeout(within, frames).await;
}

/// As much of a client's text as an answer to it repeats.
fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    text.chars().take(CHARS_MAX).collect()
}

fn ask(head: request::Parts, body: Bodies, id: &str) -> Result<Ask, Refusal> {
    let request::Parts { method, uri, mut headers, .. } = head;
    strip_request_headers(&mut headers);
    strip_keys(&mut headers);
    let id = HeaderValue::from_str(id).expect("hexadecimal digits are visible ASCII");
    headers.entry("x-request-id").or_insert(id);
    let path = uri.path_and_query().cloned();
    let path = path.ok_or_else(|| Refusal::BadRequest(format!("'{uri}' has no path")))?;
    Ok(Ask { method, path, headers, body })
}
