//! An engine, as the router reaches it, and whether it does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_types::{EndpointId, Incarnation};

/// Name of the header that says which endpoint answered.
pub(crate) const ENDPOINT_HEADER: HeaderName = HeaderName::from_static("x-weft-endpoint");

/// An engine replica. It outlives changes of the roster as long as its URL and incarnation stay.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) incarnation: Incarnation,
    pub(crate) url: String,
    /// Its name, as the answer's header has it.
    pub(crate) label: HeaderValue,
    authority: Authority,
    /// Path of the base URL, without a trailing slash.
    base: String,
    health: Mutex<Health>,
    /// Told at every probe that it leaves unanswered while it is out.
    silent: Notify,
}

/// Why a URL is not an endpoint's.
#[derive(Debug, thiserror::Error)]
#[error("endpoint {id} has the URL '{url}': expected http://host:port, with a path or without")]
pub struct UrlError {
    id: EndpointId,
    url: String,
}

/// A request that cannot reach an endpoint puts it out at once; a probe brings it back, the sooner the less it failed lately.
#[derive(Debug, Default)]
struct Health {
    out: bool,
    /// Probes that failed since the last that did not.
    failed_probes: u32,
    /// Requests that failed since the last that did not.
    failed_requests: u32,
    /// Probes that pass before this don't count.
    not_before: Option<Instant>,
}

/// What a probe found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    Passed,
    /// It answered, with something else than success.
    Unwell,
    /// It did not answer.
    Silent,
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    None,
    Out,
    Back,
}

impl Endpoint {
    /// A failing endpoint that answers probes gets its next request after this, doubled with each failure in a row.
    const OUT_FIRST: Duration = Duration::from_secs(1);
    /// At most so often doubled: 32 s.
    const OUT_DOUBLINGS: u32 = 5;

    pub(crate) fn new(id: EndpointId, incarnation: Incarnation, url: &str) -> Result<Self, UrlError> {
        let error = || UrlError { id: id.clone(), url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| error())?;
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)).cloned().ok_or_else(error)?;
        Ok(Self {
            label: HeaderValue::from_str(&id.to_string()).map_err(|_| error())?,
            base: uri.path().trim_end_matches('/').to_owned(),
            url: url.to_owned(),
            authority,
            incarnation,
            health: Mutex::default(),
            silent: Notify::new(),
            id,
        })
    }

    /// The URI of a path on this endpoint.
    pub(crate) fn uri(&self, path: &PathAndQuery) -> Result<Uri, http::Error> {
        let builder = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        if self.base.is_empty() {
            builder.path_and_query(path.clone()).build()
        } else {
            builder.path_and_query(format!("{}{path}", self.base)).build()
        }
    }

    /// Where it listens, if its URL says that in numbers and nothing else.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        self.authority.as_str().parse().ok().filter(|_| self.base.is_empty())
    }

    /// As the history knows it.
    pub(crate) fn remembered(&self) -> (&EndpointId, Incarnation) {
        (&self.id, self.incarnation)
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.health.lock().out
    }

    /// Resolves when it is found to answer nobody: what waits for its first byte need not wait longer. One that answers
    /// that it is unwell, as one that drains does, may still answer what it has.
    pub(crate) async fn falls_silent(&self) {
        self.silent.notified().await;
    }

    /// It answered a request.
    pub(crate) fn answered(&self) {
        self.health.lock().failed_requests = 0;
    }

    /// A request did not reach it, or its answer broke. Those that were under way when it went out tell nothing new.
    pub(crate) fn failed(&self, now: Instant) -> Change {
        let mut health = self.health.lock();
        if health.out {
            return Change::None;
        }
        let doublings = health.failed_requests.min(Self::OUT_DOUBLINGS);
        health.failed_requests = health.failed_requests.saturating_add(1);
        health.not_before = Some(now + Self::OUT_FIRST * 2_u32.pow(doublings));
        health.put_out()
    }

    /// What a probe found; `failures_max` failed ones in a row put it out.
    pub(crate) fn probed(&self, probe: Probe, now: Instant, failures_max: u32) -> Change {
        let mut health = self.health.lock();
        if probe != Probe::Passed {
            health.failed_probes = health.failed_probes.saturating_add(1);
            if health.failed_probes < failures_max {
                return Change::None;
            }
            if probe == Probe::Silent {
                self.silent.notify_waiters();
            }
            return health.put_out();
        }
        health.failed_probes = 0;
        if !health.out || health.not_before.is_some_and(|at| now < at) {
            return Change::None;
        }
        health.out = false;
        Change::Back
    }
}

impl Health {
    fn put_out(&mut self) -> Change {
        if std::mem::replace(&mut self.out, true) { Change::None } else { Change::Out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, UrlError> {
        Endpoint::new("e1".parse().unwrap(), Incarnation::new(1), url)
    }

    #[test]
    fn paths_go_below_the_base_url() {
        let path = PathAndQuery::from_static("/v1/models?a=b");
        let uri = |url| endpoint(url).unwrap().uri(&path).unwrap().to_string();
        assert_eq!(uri("http://10.0.0.7:8000"), "http://10.0.0.7:8000/v1/models?a=b");
        assert_eq!(uri("http://engine/base/"), "http://engine/base/v1/models?a=b");
        for bad in ["https://engine", "engine:8000", "http://", ""] {
            assert!(endpoint(bad).unwrap_err().to_string().contains("expected http://host:port"), "{bad}");
        }
    }

    #[test]
    fn a_request_puts_out_at_once_and_a_probe_brings_back_later_and_later() {
        let (endpoint, start) = (endpoint("http://e").unwrap(), Instant::now());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert_eq!(endpoint.failed(at(0.0)), Change::Out);
        assert_eq!(endpoint.failed(at(0.0)), Change::None, "it was out already");
        assert!(!endpoint.is_healthy());
        assert_eq!(endpoint.probed(Probe::Passed, at(0.9), 3), Change::None);
        assert_eq!(
            endpoint.probed(Probe::Passed, at(1.1), 3),
            Change::Back,
            "one crash, however many requests met it: 1 s"
        );
        assert_eq!(endpoint.failed(at(2.0)), Change::Out);
        assert_eq!(endpoint.probed(Probe::Passed, at(3.9), 3), Change::None, "the second in a row: 2 s");
        assert_eq!(endpoint.probed(Probe::Passed, at(4.1), 3), Change::Back);
        endpoint.answered();
        assert_eq!(endpoint.failed(at(5.0)), Change::Out);
        assert_eq!(endpoint.probed(Probe::Passed, at(6.1), 3), Change::Back, "an answer in between: 1 s again");
    }

    #[test]
    fn probes_put_out_only_in_a_row() {
        let (endpoint, now) = (endpoint("http://e").unwrap(), Instant::now());
        for probe in [Probe::Unwell, Probe::Silent, Probe::Passed, Probe::Silent, Probe::Unwell] {
            assert_eq!(endpoint.probed(probe, now, 3), Change::None);
        }
        assert_eq!(endpoint.probed(Probe::Unwell, now, 3), Change::Out);
        assert_eq!(endpoint.probed(Probe::Passed, now, 3), Change::Back);
    }
}
