//! One request of a gateway's, from its headers to the last of its answer.
//!
//! Its body is taken whole before anything is answered, as the pick depends on it; then headers and body go back, with what was
//! put into them. The answer passes by here too, so that it is known when its first token came, and when it is over.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Either};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use weft_types::EndpointId;

use super::wire::{
    BodyChange, BodyMode, Common, Handled, HandledTrailers, HeaderChanges, HeaderList, HttpBody, HttpHeaders,
    HttpStatus, Immediate, Kind, Metadata, Part, ProcessingRequest, ProcessingResponse, Struct, Value, Verdict,
};
use crate::answer::Refusal;
use crate::callers::strip_keys;
use crate::endpoint::{ENDPOINT_HEADER, Endpoint};
use crate::gateway::{Gateway, REQUEST_ID_HEADER, Routing};
use crate::metrics::Outcome;
use crate::prompt::Surface;
use crate::relay::Exchange;
use crate::usage::Tail;

/// Where the gateway reads the pick, as a header and as a name in [`NAMESPACE`].
const DESTINATION: &str = "x-gateway-destination-endpoint";
const NAMESPACE: &str = "envoy.lb";
/// Where it names the endpoints that may be picked, and how.
const SUBSET_NAMESPACE: &str = "envoy.lb.subset_hint";
const SUBSET: &str = "x-gateway-destination-endpoint-subset";
/// Endpoints that are named to fall back to, after the pick.
const FALLBACKS: usize = 3;
/// Bytes of a body in one verdict: Envoy takes no more than 64 KiB with what is around them.
const CHUNK_BYTES: usize = 60 << 10;

type Say = mpsc::Sender<Result<ProcessingResponse, Status>>;

/// A request as it came.
struct Asked {
    headers: HeaderMap,
    path: String,
    body: Bytes,
    /// Whether it has a body at all, and trailers behind it.
    has_body: bool,
    has_trailers: bool,
    /// Endpoints that may be picked; `None`: any.
    subset: Option<Vec<SocketAddr>>,
}

/// Where it goes.
struct Picked {
    routing: Routing,
    endpoint: Arc<Endpoint>,
    /// In order, the pick first.
    destinations: String,
    body: Bytes,
}

/// Talks until the gateway has heard all.
pub(super) async fn converse(
    gateway: &Gateway,
    mut parts: Streaming<ProcessingRequest>,
    say: &Say,
) -> Result<(), Status> {
    let asked = match take(gateway, &mut parts).await? {
        Ok(asked) => asked,
        Err(refusal) => return refuse(refusal, say).await,
    };
    let caller = match gateway.callers.identify(&asked.headers) {
        Ok(caller) => caller,
        Err(refusal) => {
            gateway.metrics.ended(Outcome::Unauthorized);
            return refuse(refusal, say).await;
        }
    };
    gateway.metrics.called(&caller);
    let mut exchange = match gateway.enter(&caller) {
        Ok(exchange) => exchange,
        Err(refusal) => return refuse(refusal, say).await,
    };
    let surface = match asked.path.split('?').next() {
        Some("/v1/chat/completions") => Surface::Chat,
        Some("/v1/completions") => Surface::Completion,
        _ => Surface::Other,
    };
    let understanding = gateway.understand(surface, &caller, &asked.headers, &asked.body, &mut exchange);
    // A gateway that ends the conversation has lost its client.
    let understood = tokio::select! {
        understood = understanding => understood,
        () = say.closed() => return Ok(()),
    };
    let picked = match understood.and_then(|routing| pick(gateway, routing, asked.subset.as_deref(), &mut exchange)) {
        Ok(picked) => picked,
        Err(refusal) => {
            exchange.outcome = refusal.outcome();
            return refuse(refusal, say).await;
        }
    };
    hand_on(&asked, &picked, say).await?;
    follow(&picked, exchange, parts, say).await
}

/// The whole of a request.
async fn take(gateway: &Gateway, parts: &mut Streaming<ProcessingRequest>) -> Result<Result<Asked, Refusal>, Status> {
    let Some(first) = parts.message().await? else { return Err(Status::invalid_argument("no request came")) };
    if let Some(protocol) = &first.protocol
        && protocol.request_body_mode() != BodyMode::FullDuplexStreamed
        && protocol.request_body_mode() != BodyMode::None
    {
        return Err(Status::failed_precondition(format!(
            "request_body_mode is {:?}: an endpoint picker needs FULL_DUPLEX_STREAMED",
            protocol.request_body_mode()
        )));
    }
    let Some(Part::RequestHeaders(HttpHeaders { headers, end_of_stream })) = first.part else {
        return Err(Status::invalid_argument("expected the headers of a request first"));
    };
    let (headers, path) = read(headers.unwrap_or_default());
    let subset = first.metadata.as_ref().and_then(subset);
    let mut asked = Asked { headers, path, body: Bytes::new(), has_body: !end_of_stream, has_trailers: false, subset };
    let (bytes_max, within) = (gateway.limits.body.bytes(), gateway.limits.body_within);
    let mut body = BytesMut::new();
    let reading = async {
        let mut ended = end_of_stream;
        while !ended {
            match parts.message().await?.and_then(|message| message.part) {
                Some(Part::RequestBody(chunk)) => {
                    if (body.len() + chunk.body.len()) as u64 > bytes_max {
                        return Ok(Err(Refusal::TooLarge { bytes_max }));
                    }
                    body.extend_from_slice(&chunk.body);
                    ended = chunk.end_of_stream;
                }
                Some(Part::RequestTrailers(_)) => (asked.has_trailers, ended) = (true, true),
                _ => return Err(Status::invalid_argument("expected the rest of a request's body")),
            }
        }
        Ok(Ok(()))
    };
    let Ok(read) = timeout(within, reading).await else { return Ok(Err(Refusal::SlowBody { within })) };
    asked.body = body.freeze();
    Ok(read?.map(|()| asked))
}

/// Picks among those of the subset that a gateway can reach, and names others to fall back to.
fn pick(
    gateway: &Gateway,
    routing: Routing,
    subset: Option<&[SocketAddr]>,
    exchange: &mut Exchange,
) -> Result<Picked, Refusal> {
    let may = |endpoint: &Endpoint| {
        endpoint.socket().filter(|socket| subset.is_none_or(|subset| subset.contains(socket))).is_some()
    };
    let served = &routing.model.served;
    let but: Vec<EndpointId> =
        served.iter().filter(|served| !may(&served.endpoint)).map(|served| served.endpoint.id.clone()).collect();
    let none = || Refusal::NoEndpoint { model: routing.model.name.clone() };
    let (_, picked) = gateway.decide(&routing, &but, false, exchange).ok_or_else(none)?;
    let (endpoint, takes_salt) = (Arc::clone(&picked.endpoint), picked.takes_salt);
    // One that takes no salt must get none, so that only like endpoints can take each other's place.
    let like = |id: &EndpointId| {
        served.iter().find(|served| served.endpoint.id == *id && served.takes_salt == takes_salt)?.endpoint.socket()
    };
    let others = exchange.others();
    let sockets = endpoint.socket().into_iter().chain(others.iter().filter_map(like).take(FALLBACKS));
    let destinations = sockets.map(|socket| socket.to_string()).collect::<Vec<_>>().join(",");
    let body = if takes_salt { routing.bodies.salted.clone() } else { routing.bodies.plain.clone() };
    Ok(Picked { endpoint, destinations, body, routing })
}

/// Says where it goes, and gives its body back.
async fn hand_on(asked: &Asked, picked: &Picked, say: &Say) -> Result<(), Status> {
    let mut headers = HeaderChanges::default();
    headers.set(DESTINATION, &picked.destinations);
    if picked.body.len() != asked.body.len() {
        headers.set("content-length", &picked.body.len().to_string());
    }
    let mut without_keys = asked.headers.clone();
    strip_keys(&mut without_keys);
    let ours = [AUTHORIZATION, HeaderName::from_static("x-api-key")];
    headers.remove = ours
        .iter()
        .filter(|name| asked.headers.contains_key(*name) && !without_keys.contains_key(*name))
        .map(ToString::to_string)
        .collect();
    let destination = Value::object([(DESTINATION, Value::text(picked.destinations.clone()))]);
    let verdict = Verdict::RequestHeaders(handled(Some(headers), None));
    let response =
        ProcessingResponse { verdict: Some(verdict), dynamic_metadata: Some(Struct::of([(NAMESPACE, destination)])) };
    send(say, response).await?;
    if asked.has_body {
        let mut rest = picked.body.clone();
        loop {
            let body = rest.split_to(rest.len().min(CHUNK_BYTES));
            let end_of_stream = rest.is_empty() && !asked.has_trailers;
            verdict_on(say, Verdict::RequestBody(handled(None, Some(HttpBody { body, end_of_stream })))).await?;
            if rest.is_empty() {
                break;
            }
        }
    }
    match asked.has_trailers {
        true => verdict_on(say, Verdict::RequestTrailers(HandledTrailers {})).await,
        false => Ok(()),
    }
}

/// Watches the answer go by.
async fn follow(
    picked: &Picked,
    mut exchange: Exchange,
    mut parts: Streaming<ProcessingRequest>,
    say: &Say,
) -> Result<(), Status> {
    let (mut tail, mut waits_for_token) = (Tail::default(), false);
    // Its end without an error is that of an answer that went through, if one began.
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(Part::ResponseHeaders(HttpHeaders { headers, end_of_stream })) => {
                let (headers, _) = read(headers.unwrap_or_default());
                let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
                waits_for_token = picked.routing.streamed && kind.starts_with(b"text/event-stream");
                let mut changes = HeaderChanges::default();
                changes.set(REQUEST_ID_HEADER.as_str(), &picked.routing.id);
                changes.set(ENDPOINT_HEADER.as_str(), &picked.endpoint.id.to_string());
                exchange.outcome = if end_of_stream { Outcome::Answered } else { Outcome::Cancelled };
                verdict_on(say, Verdict::ResponseHeaders(handled(Some(changes), None))).await?;
            }
            Some(Part::ResponseBody(chunk)) => {
                if std::mem::take(&mut waits_for_token) {
                    exchange.first_token();
                }
                tail.push(&chunk.body);
                if chunk.end_of_stream {
                    exchange.outcome = Outcome::Answered;
                }
                verdict_on(say, Verdict::ResponseBody(handled(None, Some(chunk)))).await?;
            }
            Some(Part::ResponseTrailers(_)) => {
                exchange.outcome = Outcome::Answered;
                verdict_on(say, Verdict::ResponseTrailers(HandledTrailers {})).await?;
            }
            _ => return Err(Status::invalid_argument("expected the answer to the request")),
        }
    }
    if exchange.outcome == Outcome::Answered
        && let Some(usage) = tail.usage()
    {
        exchange.used(usage);
    }
    Ok(())
}

fn handled(headers: Option<HeaderChanges>, body: Option<HttpBody>) -> Handled {
    let clear_route_cache = headers.is_some();
    let body = body.map(|streamed| BodyChange { streamed: Some(streamed) });
    Handled { common: Some(Common { headers, body, clear_route_cache }) }
}

/// Answers in an engine's place, as the listener for clients would.
async fn refuse(refusal: Refusal, say: &Say) -> Result<(), Status> {
    let details = refusal.to_string();
    let (head, body) = refusal.into_response().into_parts();
    let body = match body {
        Either::Left(whole) => {
            let Ok(whole) = whole.collect().await;
            whole.to_bytes()
        }
        Either::Right(_) => Bytes::new(),
    };
    let mut headers = HeaderChanges::default();
    for (name, value) in &head.headers {
        headers.set(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
    }
    let status = Some(HttpStatus { code: i32::from(head.status.as_u16()) });
    verdict_on(say, Verdict::Immediate(Immediate { status, headers: Some(headers), body, details })).await
}

async fn verdict_on(say: &Say, verdict: Verdict) -> Result<(), Status> {
    send(say, ProcessingResponse { verdict: Some(verdict), dynamic_metadata: None }).await
}

async fn send(say: &Say, response: ProcessingResponse) -> Result<(), Status> {
    say.send(Ok(response)).await.map_err(|_| Status::cancelled("the gateway is gone"))
}

/// Headers as others know them, and the path.
fn read(list: HeaderList) -> (HeaderMap, String) {
    let (mut headers, mut path) = (HeaderMap::new(), String::new());
    for header in list.headers {
        if header.key == ":path" {
            path = String::from_utf8_lossy(header.bytes()).into_owned();
        }
        // What is no header of HTTP, as Envoy's names with a colon, is of no interest here.
        let name = header.key.parse::<HeaderName>();
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.bytes())) {
            headers.append(name, value);
        }
    }
    (headers, path)
}

/// Endpoints that may be picked; text that is no address is none's.
fn subset(metadata: &Metadata) -> Option<Vec<SocketAddr>> {
    let value = metadata.filters.get(SUBSET_NAMESPACE)?.fields.get(SUBSET)?;
    let text = |value: &Value| match &value.kind {
        Some(Kind::Text(text)) => text.split(',').map(str::trim).filter_map(|text| text.parse().ok()).collect(),
        _ => Vec::new(),
    };
    match &value.kind {
        Some(Kind::List(list)) => Some(list.values.iter().flat_map(text).collect()),
        _ => Some(text(value)),
    }
}
