//! The endpoint picker, asked as Envoy asks: over gRPC, in its messages.

#[expect(dead_code, reason = "the router's own half of the messages")]
#[path = "../../src/ext_proc/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use weft_router::ExtProcConfig;

use self::wire::{
    BodyMode, Header, HeaderChanges, HeaderList, HealthCheckRequest, HealthCheckResponse, HttpBody, HttpHeaders,
    Immediate, Kind, ListValue, Metadata, Part, ProcessingRequest, ProcessingResponse, Protocol, Serving, Struct,
    Value, Verdict,
};
use crate::cluster::{CHAT, Cluster, chat, soon};
use crate::engine::Engine;

const DESTINATION: &str = "x-gateway-destination-endpoint";

/// A conversation about one request.
struct Conversation {
    say: mpsc::Sender<ProcessingRequest>,
    said: Streaming<ProcessingResponse>,
}

async fn cluster(engines: &[&Engine]) -> Cluster {
    Cluster::of(engines, |config| {
        config.ext_proc = Some(ExtProcConfig { listen: "127.0.0.1:0".parse().unwrap() });
    })
    .await
}

async fn channel(cluster: &Cluster) -> Channel {
    let addr = cluster.router.ext_proc_addr().unwrap();
    soon(Channel::from_shared(format!("http://{addr}")).unwrap().connect()).await.unwrap()
}

impl Conversation {
    async fn begin(cluster: &Cluster) -> Self {
        let mut grpc = tonic::client::Grpc::new(channel(cluster).await);
        let (say, heard) = mpsc::channel(16);
        soon(grpc.ready()).await.unwrap();
        let path = PathAndQuery::from_static("/envoy.service.ext_proc.v3.ExternalProcessor/Process");
        let codec = ProstCodec::<ProcessingRequest, ProcessingResponse>::default();
        let said = soon(grpc.streaming(Request::new(ReceiverStream::new(heard)), path, codec)).await.unwrap();
        Self { say, said: said.into_inner() }
    }

    async fn say(&self, part: Part) {
        let protocol = Protocol {
            request_body_mode: BodyMode::FullDuplexStreamed.into(),
            response_body_mode: BodyMode::FullDuplexStreamed.into(),
        };
        self.send(ProcessingRequest { part: Some(part), metadata: None, protocol: Some(protocol) }).await;
    }

    async fn send(&self, request: ProcessingRequest) {
        soon(self.say.send(request)).await.unwrap();
    }

    /// A whole chat, in pieces.
    async fn ask(&self, body: &str, subset: Option<Vec<SocketAddr>>) {
        let text = |addr: SocketAddr| Value { kind: Some(Kind::Text(addr.to_string())) };
        let filters = subset.map(|subset| {
            let list = ListValue { values: subset.into_iter().map(text).collect() };
            let fields = [("x-gateway-destination-endpoint-subset".to_owned(), Value { kind: Some(Kind::List(list)) })];
            [("envoy.lb.subset_hint".to_owned(), Struct { fields: fields.into() })].into()
        });
        let metadata = filters.map(|filters| Metadata { filters });
        let part = Some(Part::RequestHeaders(headers(&[
            (":method", "POST"),
            (":path", CHAT),
            ("content-type", "application/json"),
        ])));
        self.send(ProcessingRequest { part, metadata, protocol: None }).await;
        let (first, rest) = body.split_at(body.len() / 2);
        for (piece, end_of_stream) in [(first, false), (rest, true)] {
            self.say(Part::RequestBody(HttpBody { body: Bytes::from(piece.to_owned()), end_of_stream })).await;
        }
    }

    async fn hear(&mut self) -> ProcessingResponse {
        soon(self.said.message()).await.unwrap().unwrap()
    }

    async fn refused(&mut self) -> Immediate {
        let response = self.hear().await;
        let Some(Verdict::Immediate(refused)) = response.verdict else { panic!("{response:?}") };
        refused
    }
}

fn headers(all: &[(&str, &str)]) -> HttpHeaders {
    let header = |(key, value): &(&str, &str)| Header::new(key, value);
    HttpHeaders { headers: Some(HeaderList { headers: all.iter().map(header).collect() }), end_of_stream: false }
}

fn value<'a>(changes: &'a HeaderChanges, name: &str) -> Option<&'a str> {
    let set = changes.set.iter().filter_map(|set| set.header.as_ref()).find(|header| header.key == name)?;
    std::str::from_utf8(set.bytes()).ok()
}

/// The destinations, which header and metadata must agree on.
fn destinations(response: &ProcessingResponse) -> Vec<SocketAddr> {
    let Some(Verdict::RequestHeaders(handled)) = &response.verdict else { panic!("{response:?}") };
    let header = value(handled.common.as_ref().unwrap().headers.as_ref().unwrap(), DESTINATION).unwrap();
    let namespace = &response.dynamic_metadata.as_ref().unwrap().fields["envoy.lb"];
    let Some(Kind::Object(object)) = &namespace.kind else { panic!("{namespace:?}") };
    assert_eq!(object.fields[DESTINATION].kind, Some(Kind::Text(header.to_owned())));
    header.split(',').map(|text| SocketAddr::from_str(text).unwrap()).collect()
}

fn body(response: ProcessingResponse) -> HttpBody {
    let Some(Verdict::RequestBody(handled) | Verdict::ResponseBody(handled)) = response.verdict else {
        panic!("{response:?}")
    };
    handled.common.unwrap().body.unwrap().streamed.unwrap()
}

#[tokio::test]
async fn a_request_gets_a_destination_with_fall_backs_and_its_body_back() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let cluster = cluster(&[&one, &two]).await;
    let mut conversation = Conversation::begin(&cluster).await;
    let asked = chat(&"hello ".repeat(20_000), true);
    conversation.ask(&asked, None).await;
    let all = destinations(&conversation.hear().await);
    assert_eq!(all.len(), 2, "the pick, and the other to fall back to");
    assert!(all.contains(&one.addr) && all.contains(&two.addr));
    let (mut back, mut ended) = (Vec::new(), false);
    while !ended {
        let piece = body(conversation.hear().await);
        assert!(piece.body.len() <= 62 << 10, "Envoy takes no larger piece");
        (ended, _) = (piece.end_of_stream, back.extend_from_slice(&piece.body));
    }
    assert_eq!(String::from_utf8(back).unwrap(), asked);
    cluster.metric("weft_router_in_flight_requests 1").await;
    conversation
        .say(Part::ResponseHeaders(headers(&[(":status", "200"), ("content-type", "text/event-stream")])))
        .await;
    let Some(Verdict::ResponseHeaders(handled)) = conversation.hear().await.verdict else { panic!() };
    let changes = handled.common.unwrap().headers.unwrap();
    let request = value(&changes, "x-weft-request-id").unwrap().to_owned();
    assert!(["e0", "e1"].contains(&value(&changes, "x-weft-endpoint").unwrap()));
    for (text, end_of_stream) in [("data: 1\n\n", false), ("data: {\"usage\":{\"prompt_tokens\":7}}\n\n", true)] {
        let piece = HttpBody { body: Bytes::from(text), end_of_stream };
        conversation.say(Part::ResponseBody(piece.clone())).await;
        assert_eq!(body(conversation.hear().await), piece, "answers go by as they are");
    }
    drop(conversation);
    cluster.metric("weft_router_requests_total{outcome=\"answered\"} 1").await;
    cluster.metric("weft_router_in_flight_requests 0").await;
    let explained = cluster.admin(&format!("/explain/{request}")).await;
    assert!(explained.contains("\"prompt_tokens\":7"), "{explained}");
}

#[tokio::test]
async fn only_the_subset_is_picked_from_and_an_empty_one_is_503() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let cluster = cluster(&[&one, &two]).await;
    for _ in 0..8 {
        let mut conversation = Conversation::begin(&cluster).await;
        conversation.ask(&chat("hello", false), Some(vec![two.addr])).await;
        assert_eq!(destinations(&conversation.hear().await), [two.addr]);
    }
    for subset in [vec![], vec!["192.0.2.1:8000".parse().unwrap()]] {
        let mut conversation = Conversation::begin(&cluster).await;
        conversation.ask(&chat("hello", false), Some(subset)).await;
        let refused = conversation.refused().await;
        assert_eq!(refused.status.unwrap().code, 503);
        assert_eq!(value(&refused.headers.unwrap(), "retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn a_request_that_is_shed_is_429_and_a_bad_one_400() {
    let one = Engine::start().await;
    let cluster = Cluster::of(&[&one], |config| {
        config.ext_proc = Some(ExtProcConfig { listen: "127.0.0.1:0".parse().unwrap() });
        config.limits.requests_per_tenant = 1;
    })
    .await;
    let mut first = Conversation::begin(&cluster).await;
    first.ask(&chat("hello", false), None).await;
    destinations(&first.hear().await);
    let mut second = Conversation::begin(&cluster).await;
    second.ask(&chat("hello", false), None).await;
    let refused = second.refused().await;
    assert_eq!(refused.status.unwrap().code, 429);
    assert!(String::from_utf8_lossy(&refused.body).contains("rate_limit_exceeded"));
    drop(first);
    cluster.metric("weft_router_in_flight_requests 0").await;
    let mut third = Conversation::begin(&cluster).await;
    third.ask("no object", None).await;
    assert_eq!(third.refused().await.status.unwrap().code, 400);
}

#[tokio::test]
async fn another_body_mode_is_an_error_that_says_so() {
    let one = Engine::start().await;
    let cluster = cluster(&[&one]).await;
    let mut conversation = Conversation::begin(&cluster).await;
    let protocol = Protocol { request_body_mode: BodyMode::Buffered.into(), response_body_mode: 0 };
    let part = Some(Part::RequestHeaders(headers(&[(":path", CHAT)])));
    conversation.send(ProcessingRequest { part, metadata: None, protocol: Some(protocol) }).await;
    let status: Status = soon(conversation.said.message()).await.unwrap_err();
    assert!(status.message().contains("needs FULL_DUPLEX_STREAMED"), "{status}");
}

#[tokio::test]
async fn health_is_told_by_service() {
    let one = Engine::start().await;
    let cluster = cluster(&[&one]).await;
    let mut grpc = tonic::client::Grpc::new(channel(&cluster).await);
    for (service, expected) in [
        ("liveness", Some(Serving::Yes)),
        ("readiness", Some(Serving::Yes)),
        ("envoy.service.ext_proc.v3.ExternalProcessor", Some(Serving::Yes)),
        ("else", None),
    ] {
        soon(grpc.ready()).await.unwrap();
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let asked = HealthCheckRequest { service: service.to_owned() };
        let answer = soon(grpc.unary(Request::new(asked), path, codec)).await;
        assert_eq!(answer.ok().map(|answer| answer.into_inner().status()), expected, "{service}");
    }
}

/// Bytes as protoc writes them of definitions with Envoy's names and numbers.
#[test]
fn messages_are_as_the_protocol_has_them() {
    // request_headers (2) { headers (1) { headers (1) { key (1) ":path", raw_value (3) "/" } } end_of_stream (3) true },
    // metadata_context (8) { filter_metadata (1) { key (1) "n", value (2) { fields (1) { key "k", value { string_value (3) "v" } } } } },
    // protocol_config (11) { request_body_mode (1) FULL_DUPLEX_STREAMED }; and observability_mode (10), which is stepped over.
    let bytes = hex("1210 0a0c 0a0a 0a05 3a70617468 1a01 2f 1801 \
         4211 0a0f 0a01 6e 120a 0a08 0a01 6b 1203 1a01 76 5001 5a02 0804");
    let request = ProcessingRequest::decode(&bytes[..]).unwrap();
    let Some(Part::RequestHeaders(headers)) = &request.part else { panic!("{request:?}") };
    assert!(headers.end_of_stream);
    assert_eq!(headers.headers.as_ref().unwrap().headers[0], Header::new(":path", "/"));
    assert_eq!(request.protocol.unwrap().request_body_mode(), BodyMode::FullDuplexStreamed);
    assert!(request.metadata.unwrap().filters["n"].fields.contains_key("k"));
    // request_body (3) { response (1) { body_mutation (3) { streamed_response (3) { body (1) "x", end_of_stream (2) true } } } }
    let streamed = HttpBody { body: Bytes::from_static(b"x"), end_of_stream: true };
    let change = wire::BodyChange { streamed: Some(streamed) };
    let common = wire::Common { headers: None, body: Some(change), clear_route_cache: false };
    let verdict = Some(Verdict::RequestBody(wire::Handled { common: Some(common) }));
    let response = ProcessingResponse { verdict, dynamic_metadata: None };
    assert_eq!(response.encode_to_vec(), hex("1a0b 0a09 1a07 1a05 0a01 78 1001"));
    // set_headers (1) { header (1) { key "a", raw_value "b" }, append_action (3) OVERWRITE_IF_EXISTS_OR_ADD }
    let mut changes = HeaderChanges::default();
    changes.set("a", "b");
    assert_eq!(changes.encode_to_vec(), hex("0a0a 0a06 0a01 61 1a01 62 1802"));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
