//! What an operator sets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;
use weft_index::PrefixIndex;
use weft_policy::{Policy, Priors};
use weft_service::address;
use weft_service::config::{IdentityFiles, duration};
use weft_types::{ByteSize, EndpointId, Name};

use crate::admission::AdmissionConfig;
use crate::callers::{Keyless, KeysConfig};
use crate::ext_proc::ExtProcConfig;
use crate::published::{self, KvEventsConfig};

/// Configuration of a router. Every field has a default; without endpoints it answers that it knows no model.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Its name, in its state; with `metadata`, the one in its certificate. Default `router-1`.
    pub name: Name,
    /// Where clients come, TCP. Default `127.0.0.1:8080`.
    pub http: SocketAddr,
    /// An endpoint picker for gateways that forward by themselves (Envoy's `ext_proc`). Default none.
    pub ext_proc: Option<ExtProcConfig>,
    /// Probes and metrics, TCP. Default `127.0.0.1:7421`.
    pub admin: SocketAddr,
    /// Fabric, UDP; bound only with `metadata`. Default `127.0.0.1:7420`.
    pub fabric: SocketAddr,
    /// Fabric addresses of metadata members: endpoints, and who holds which block, come from them; names are looked up once, at
    /// start. Default none: static endpoints, routed by load.
    #[serde(deserialize_with = "address::list")]
    pub metadata: Vec<SocketAddr>,
    /// Bytes for the copy of the index; it never takes more. Half of it is room for the next copy, which is built aside while a snapshot
    /// comes in. What was matched least recently leaves first, `weft_follower_evicted_blocks_total` counts it. Default 2 GiB: some 35
    /// million blocks.
    pub index_bytes: ByteSize,
    /// Names of the models whose blocks it follows, where it serves some of many: blocks in engines that serve them, and at nodes with such
    /// an engine. A request for another model is routed by load alone. Default none: those of all.
    pub follow_models: BTreeSet<String>,
    /// Certificate, key and CA; needed with `metadata`.
    pub identity: Option<IdentityFiles>,
    /// How an endpoint is picked: `weft`, `approximate`, `least-tokens`, `least-requests`, `round-robin` or `longest-prefix`. Default `weft`.
    pub policy: Policy,
    /// What engines are believed to do before anything was seen of them.
    pub priors: Priors,
    /// Who may call, as whom.
    pub keys: KeysConfig,
    /// Salt of callers without a key, part of every block hash. Default empty; one that the engines don't hear of costs every cache hit.
    pub cache_salt: String,
    /// Tokenizers of models. A model without one is routed by load, and by what was sent where.
    pub models: Vec<ModelConfig>,
    /// Endpoints beside those of the roster.
    pub endpoints: Vec<EndpointConfig>,
    /// Bounds.
    pub limits: Limits,
    /// Who is let through when more want to than may.
    pub admission: AdmissionConfig,
    /// Probes of endpoints.
    pub health: HealthConfig,
    /// Decisions that `weft explain` can be asked about: the last so many, in 32 MiB at most. Default 4096; 0 keeps none.
    pub explained_requests: usize,
    /// Adds `x-weft-matched-tokens` to answers: how much of the prompt was expected to be cached. It tells a caller about
    /// other callers' prompts, so that it is for benches. Default false.
    pub debug_headers: bool,
}

/// Where a model's `tokenizer.json` is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name in requests.
    pub name: String,
    /// Folder with `tokenizer.json` and `tokenizer_config.json`, those of the engines.
    pub folder: PathBuf,
}

/// An engine that is no part of the fabric.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its name, in logs, in its state and in answers.
    pub id: EndpointId,
    /// Base URL of its OpenAI API, such as `http://10.0.0.7:8000`.
    pub url: String,
    /// Names of the models it serves.
    pub models: Vec<String>,
    /// Its engine takes `cache_salt`, as vLLM and SGLang do, and gets the caller's in each request. Default true. With false it gets none: what
    /// one tenant asked can be found out there by another, by timing.
    #[serde(default = "yes")]
    pub cache_salt: bool,
    /// Where it publishes its KV-cache events. Default none: where there is no node beside it, what it has cached is not known.
    pub kv_events: Option<KvEventsConfig>,
}

fn yes() -> bool {
    true
}

/// Bounds on what clients may ask for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request body; more is answered 413. Default 16 MiB: 2 million tokens as ids. Worst case held: `requests` times this.
    pub body: ByteSize,
    /// Requests in flight; more are answered 503 with `Retry-After`. Default 4096.
    pub requests: usize,
    /// Requests of one tenant in flight; more are answered 429 with `Retry-After`. Callers without a key count as one tenant. Default 0: as
    /// many as `requests`.
    pub requests_per_tenant: usize,
    /// Connections of clients; more wait in the listener's backlog. Default 8192.
    pub connections: usize,
    /// Until a client has sent a whole head, and that a connection may idle. Default 60 s.
    #[serde(with = "duration")]
    pub head_within: Duration,
    /// Until a client has sent a whole body; longer is answered 408. Default 60 s.
    #[serde(with = "duration")]
    pub body_within: Duration,
    /// That a client may take nothing of its answer before it is cut off. Default 60 s.
    #[serde(with = "duration")]
    pub client_stall: Duration,
    /// Until an endpoint is connected to. Default 2 s.
    #[serde(with = "duration")]
    pub connect_within: Duration,
    /// Until an endpoint has sent the first byte of an answer, its queue and prefill included. Default 10 min.
    #[serde(with = "duration")]
    pub first_byte_within: Duration,
    /// That an endpoint may send nothing in the middle of an answer. Default 2 min.
    #[serde(with = "duration")]
    pub endpoint_stall: Duration,
}

/// How endpoints are probed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Between probes (`GET /health`) of an endpoint. Default 1 s.
    #[serde(with = "duration")]
    pub every: Duration,
    /// Until a probe has failed. Default 2 s.
    #[serde(with = "duration")]
    pub within: Duration,
    /// Failed probes in a row that put an endpoint out. Default 3. A request that cannot reach it puts it out at once.
    pub failures: u32,
    /// Path of the probe. Default `/health`.
    pub path: String,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {got}: expected {expected}")]
pub struct InvalidConfig {
    /// Its name.
    pub(crate) setting: &'static str,
    /// As configured.
    pub(crate) got: String,
    /// What it has to be.
    pub(crate) expected: String,
}

impl Config {
    /// Refuses settings that no router could run with.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        let Limits { requests, connections, .. } = self.limits;
        for (setting, got) in [("limits.requests", requests), ("limits.connections", connections)] {
            if !(1..=Semaphore::MAX_PERMITS).contains(&got) {
                let expected = format!("1 to {}", Semaphore::MAX_PERMITS);
                return Err(InvalidConfig { setting, got: got.to_string(), expected });
            }
        }
        if self.admission.passing > 0 && self.admission.waiting == 0 {
            let (got, expected) = ("0".to_owned(), "at least 1, where `admission.passing` is a bound".to_owned());
            return Err(InvalidConfig { setting: "admission.waiting", got, expected });
        }
        if let Some((setting, got)) = self.admission.numbers().find(|(_, number)| !(0.0..1e12).contains(number)) {
            let expected = "a number from 0".to_owned();
            return Err(InvalidConfig { setting, got: got.to_string(), expected });
        }
        let could_know = self.keys.file.is_some() || !self.metadata.is_empty();
        if self.keys.keyless == Keyless::Loopback && !self.http.ip().is_loopback() && !could_know {
            let expected = "a loopback address, or API keys (`keys.file`, or `metadata` with tenants); `keys.keyless = \"always\"` \
                            serves whoever can connect"
                .to_owned();
            return Err(InvalidConfig { setting: "http", got: self.http.to_string(), expected });
        }
        if self.keys.counted_tenants > KeysConfig::COUNTED_TENANTS_MAX {
            let (got, expected) = (self.keys.counted_tenants.to_string(), KeysConfig::COUNTED_TENANTS_MAX);
            let expected = format!("at most {expected}: each is a time series of its own");
            return Err(InvalidConfig { setting: "keys.counted_tenants", got, expected });
        }
        if self.index_bytes.bytes() < 2 * PrefixIndex::BUDGET_MIN as u64 {
            let expected = format!("at least {}", ByteSize::from_bytes(2 * PrefixIndex::BUDGET_MIN as u64));
            return Err(InvalidConfig { setting: "index_bytes", got: self.index_bytes.to_string(), expected });
        }
        published::check(&self.endpoints)?;
        let (limits, health) = (&self.limits, &self.health);
        let spans = [
            ("limits.head_within", limits.head_within),
            ("limits.body_within", limits.body_within),
            ("limits.client_stall", limits.client_stall),
            ("limits.connect_within", limits.connect_within),
            ("limits.first_byte_within", limits.first_byte_within),
            ("limits.endpoint_stall", limits.endpoint_stall),
            ("admission.wait_within", self.admission.wait_within),
            ("health.every", health.every),
            ("health.within", health.within),
        ];
        match spans.into_iter().find(|(_, span)| span.is_zero()) {
            None => Ok(()),
            Some((setting, _)) => {
                Err(InvalidConfig { setting, got: "0s".to_owned(), expected: "a time over 0, such as 2s".to_owned() })
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            name: "router-1".parse().expect("letters, a dash and a digit are a name"),
            http: loopback(8080),
            ext_proc: None,
            admin: loopback(7421),
            fabric: loopback(7420),
            metadata: Vec::new(),
            index_bytes: ByteSize::from_bytes(2 << 30),
            follow_models: BTreeSet::new(),
            identity: None,
            policy: Policy::default(),
            priors: Priors::default(),
            keys: KeysConfig::default(),
            cache_salt: String::new(),
            models: Vec::new(),
            endpoints: Vec::new(),
            limits: Limits::default(),
            admission: AdmissionConfig::default(),
            health: HealthConfig::default(),
            explained_requests: 4096,
            debug_headers: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: ByteSize::from_mib(16),
            requests: 4096,
            requests_per_tenant: 0,
            connections: 8192,
            head_within: Duration::from_secs(60),
            body_within: Duration::from_secs(60),
            client_stall: Duration::from_secs(60),
            connect_within: Duration::from_secs(2),
            first_byte_within: Duration::from_secs(600),
            endpoint_stall: Duration::from_secs(120),
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), within: Duration::from_secs(2), failures: 3, path: "/health".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_differs_from_the_defaults() {
        let text = "
            metadata = ['10.0.0.1:7400', '10.0.0.2:7400']
            policy = 'round-robin'
            [limits]
            body = '1MiB'
            endpoint_stall = '30s'
            [priors]
            prefill_tokens_per_second = 20000.0
            [[models]]
            name = 'sim-8b'
            folder = 'assets/sim-8b'
            [[endpoints]]
            id = 'spare'
            url = 'http://10.0.0.9:8000'
            models = ['sim-8b']
        ";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.metadata.len(), config.policy, config.endpoints.len()), (2, Policy::RoundRobin, 1));
        assert_eq!(
            (config.limits.body, config.limits.endpoint_stall),
            (ByteSize::from_mib(1), Duration::from_secs(30))
        );
        assert_eq!(config.limits.requests, Limits::default().requests);
        assert_eq!(config.priors, Priors { prefill_tokens_per_second: 20_000.0, ..Priors::default() });
        config.check().unwrap();
        let error = toml::from_str::<Config>("[limits]\nbodies = 1").unwrap_err().to_string();
        assert!(error.contains("unknown field `bodies`"), "{error}");
    }
    #[test]
    fn beyond_loopback_somebody_has_to_know_the_callers() {
        for reason in ["keys.file = 'k.toml'", "keys.keyless = 'always'", "metadata = ['10.0.0.1:7400']"] {
            toml::from_str::<Config>(&format!("http = '0.0.0.0:8080'\n{reason}")).unwrap().check().unwrap();
        }
    }
    #[test]
    fn what_no_router_could_run_with_is_refused_by_name() {
        for (text, expected) in [
            ("[limits]\nrequests = 0", "limits.requests is 0: expected 1 to "),
            ("[limits]\nconnections = 4611686018427387904", "limits.connections is 4611686018427387904"),
            ("http = '0.0.0.0:8080'", "http is 0.0.0.0:8080: expected a loopback address, or API keys"),
            ("keys.counted_tenants = 1001", "keys.counted_tenants is 1001: expected at most 1000"),
            ("[health]\nevery = '0s'", "health.every is 0s: expected a time over 0"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
