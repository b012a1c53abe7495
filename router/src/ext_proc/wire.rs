//! Envoy's external processing, `envoy.service.ext_proc.v3`, and what it is made of: the fields that an endpoint picker reads and
//! writes, with their numbers. Fields that are not here are stepped over when read.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};

/// Envoy to us: the next part of a request, or of its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessingRequest {
    #[prost(oneof = "Part", tags = "2, 3, 4, 5, 6, 7")]
    pub(crate) part: Option<Part>,
    #[prost(message, optional, tag = "8")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(message, optional, tag = "11")]
    pub(crate) protocol: Option<Protocol>,
}

/// Which part.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Part {
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    #[prost(message, tag = "3")]
    ResponseHeaders(HttpHeaders),
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
    #[prost(message, tag = "5")]
    ResponseBody(HttpBody),
    #[prost(message, tag = "6")]
    RequestTrailers(HttpTrailers),
    #[prost(message, tag = "7")]
    ResponseTrailers(HttpTrailers),
}

/// How bodies are sent, said once.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Protocol {
    #[prost(enumeration = "BodyMode", tag = "1")]
    pub(crate) request_body_mode: i32,
    #[prost(enumeration = "BodyMode", tag = "2")]
    pub(crate) response_body_mode: i32,
}

/// Whether we see a body, and whether we hand it on ourselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub(crate) enum BodyMode {
    None = 0,
    Streamed = 1,
    Buffered = 2,
    BufferedPartial = 3,
    FullDuplexStreamed = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpHeaders {
    #[prost(message, optional, tag = "1")]
    pub(crate) headers: Option<HeaderList>,
    #[prost(bool, tag = "3")]
    pub(crate) end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpBody {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) body: bytes::Bytes,
    #[prost(bool, tag = "2")]
    pub(crate) end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpTrailers {}

/// `HeaderMap` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeaderList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) headers: Vec<Header>,
}

/// `HeaderValue` there. Envoy fills `raw`, older ones `value`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Header {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) raw: Vec<u8>,
}

/// What other filters said, by namespace.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) filters: HashMap<String, Struct>,
}

/// A JSON object.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) fields: HashMap<String, Value>,
}

/// A JSON value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(oneof = "Kind", tags = "3, 5, 6")]
    pub(crate) kind: Option<Kind>,
}

/// Kinds of values that are read or written here.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Object(Struct),
    #[prost(message, tag = "6")]
    List(ListValue),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

/// We to Envoy: what becomes of the part that it sent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessingResponse {
    #[prost(oneof = "Verdict", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) verdict: Option<Verdict>,
    #[prost(message, optional, tag = "8")]
    pub(crate) dynamic_metadata: Option<Struct>,
}

/// Of which part.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Verdict {
    #[prost(message, tag = "1")]
    RequestHeaders(Handled),
    #[prost(message, tag = "2")]
    ResponseHeaders(Handled),
    #[prost(message, tag = "3")]
    RequestBody(Handled),
    #[prost(message, tag = "4")]
    ResponseBody(Handled),
    #[prost(message, tag = "5")]
    RequestTrailers(HandledTrailers),
    #[prost(message, tag = "6")]
    ResponseTrailers(HandledTrailers),
    #[prost(message, tag = "7")]
    Immediate(Immediate),
}

/// `HeadersResponse` and `BodyResponse` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Handled {
    #[prost(message, optional, tag = "1")]
    pub(crate) common: Option<Common>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandledTrailers {}

/// `CommonResponse` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Common {
    #[prost(message, optional, tag = "2")]
    pub(crate) headers: Option<HeaderChanges>,
    #[prost(message, optional, tag = "3")]
    pub(crate) body: Option<BodyChange>,
    /// The route may depend on headers that were changed.
    #[prost(bool, tag = "5")]
    pub(crate) clear_route_cache: bool,
}

/// `HeaderMutation` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeaderChanges {
    #[prost(message, repeated, tag = "1")]
    pub(crate) set: Vec<SetHeader>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) remove: Vec<String>,
}

/// `HeaderValueOption` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetHeader {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(enumeration = "Append", tag = "3")]
    pub(crate) append: i32,
}

/// What becomes of a header that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub(crate) enum Append {
    ToThose = 0,
    IfAbsent = 1,
    Overwrite = 2,
}

/// `BodyMutation` there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BodyChange {
    #[prost(message, optional, tag = "3")]
    pub(crate) streamed: Option<HttpBody>,
}

/// `ImmediateResponse` there: the answer, without an engine.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Immediate {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub(crate) headers: Option<HeaderChanges>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) body: bytes::Bytes,
    #[prost(string, tag = "5")]
    pub(crate) details: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
}

/// `grpc.health.v1`: a question.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HealthCheckResponse {
    #[prost(enumeration = "Serving", tag = "1")]
    pub(crate) status: i32,
}

/// Whether a service serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub(crate) enum Serving {
    Unknown = 0,
    Yes = 1,
    No = 2,
    NoSuchService = 3,
}

impl Value {
    pub(crate) fn text(text: String) -> Self {
        Self { kind: Some(Kind::Text(text)) }
    }

    pub(crate) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self { kind: Some(Kind::Object(Struct::of(fields))) }
    }
}

impl Struct {
    pub(crate) fn of(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }
}

impl Header {
    pub(crate) fn new(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: String::new(), raw: value.as_bytes().to_vec() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.raw.is_empty() { self.value.as_bytes() } else { &self.raw }
    }
}

impl HeaderChanges {
    /// Puts headers in the place of those that have their names.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let append = Append::Overwrite.into();
        self.set.push(SetHeader { header: Some(Header::new(key, value)), append });
    }
}
