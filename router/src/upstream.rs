//! Requests to engines: one pool of connections, no buffering of answers.
//!
//! Dropping a request or its answer closes the connection it was on, which is how an engine learns that nobody listens.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Request, response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use weft_service::run::chain;

use crate::config::Limits;
use crate::endpoint::{Endpoint, Probe};

/// Connections to every engine.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    first_byte_within: Duration,
}

/// What is asked of an endpoint; cheap to ask again of another.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    /// Without those of one hop.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bodies,
}

/// A body, for engines that take a `cache_salt` and for those that don't. Neither has one of the client's.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    pub(crate) salted: Bytes,
    pub(crate) plain: Bytes,
}

/// An answer whose first byte is here, or that has none.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) head: response::Parts,
    pub(crate) first: Option<Frame<Bytes>>,
    pub(crate) rest: Incoming,
}

impl Upstream {
    /// uvicorn, in front of vLLM and SGLang, closes a connection that idles for 5 s: one that is older must not be used again.
    const IDLE_MAX: Duration = Duration::from_secs(4);
    /// Idle connections kept an endpoint: a burst's worth.
    const IDLE_CONNECTIONS_MAX: usize = 256;

    pub(crate) fn new(limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect_within));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Self::IDLE_MAX)
            .pool_max_idle_per_host(Self::IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client, first_byte_within: limits.first_byte_within }
    }

    /// Asks, and waits for the first byte of the answer's body. The error says why there is none.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: &Ask, salted: bool) -> Result<Arrived, String> {
        let uri = endpoint.uri(&ask.path).map_err(|error| error.to_string())?;
        let body = if salted { &ask.body.salted } else { &ask.body.plain };
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = ask.headers.clone();
        let arriving = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let (head, mut rest) = response.into_parts();
            let first = if rest.is_end_stream() { None } else { rest.frame().await };
            Ok(Arrived { head, first: first.transpose().map_err(|error| chain(&error))?, rest })
        };
        let within = self.first_byte_within;
        timeout(within, arriving).await.unwrap_or_else(|_| Err(format!("no byte of an answer within {within:?}")))
    }

    /// `GET`s a path; passed is a 2xx within the time.
    pub(crate) async fn probe(&self, endpoint: &Endpoint, path: &PathAndQuery, within: Duration) -> Probe {
        let Ok(uri) = endpoint.uri(path) else { return Probe::Unwell };
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri;
        let probing = async {
            let response = self.client.request(request).await.ok()?;
            let found = if response.status().is_success() { Probe::Passed } else { Probe::Unwell };
            // Read to its end, so that the connection can be used again.
            response.into_body().collect().await.ok()?;
            Some(found)
        };
        timeout(within, probing).await.ok().flatten().unwrap_or(Probe::Silent)
    }
}

/// Headers that concern one hop (RFC 9110, 7.6.1), and those that each hop makes anew.
pub(crate) fn strip_hop_headers(headers: &mut HeaderMap) {
    const HOP: [HeaderName; 9] = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("proxy-authenticate"),
        HeaderName::from_static("proxy-authorization"),
    ];
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// As above, for a request: `Host` is the endpoint's, and the body is whole by now.
pub(crate) fn strip_request_headers(headers: &mut HeaderMap) {
    strip_hop_headers(headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_concerns_one_hop_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "router"),
            ("content-length", "7"),
            ("authorization", "Bearer key"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_request_headers(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization"]);
    }
}
