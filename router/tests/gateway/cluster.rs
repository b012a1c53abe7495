//! Engines, a router in front of them, a directory that the test writes, and a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_index::{Change, Match, PrefixIndex};
use weft_router::{Config, EndpointConfig, HealthConfig, Limits, ModelConfig, Policy, Residency, Router};
use weft_service::telemetry::Telemetry;
use weft_types::{
    BlockHasher, BlockSize, Contract, EndpointId, EndpointSpec, Generation, HolderGrant, HolderId, HolderKey,
    Incarnation, IndexKey, ModelKey, Roster, Tier,
};

use crate::engine::Engine;

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";

/// What the test awaits must come; if it does not, the test says where instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it came to nothing for 20 seconds")
}

/// A router on loopback, and what stands around it.
pub(crate) struct Cluster {
    pub(crate) router: Router,
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) directory: Arc<Directory>,
}

impl Cluster {
    /// Engines as static endpoints `e0`, `e1`, … of model `sim-8b`.
    pub(crate) async fn of(engines: &[&Engine], change: impl FnOnce(&mut Config)) -> Self {
        let endpoint = |(number, engine): (usize, &&Engine)| EndpointConfig {
            id: format!("e{number}").parse().unwrap(),
            url: engine.url(),
            models: vec!["sim-8b".to_owned()],
            cache_salt: true,
            kv_events: None,
        };
        let mut config = config();
        config.endpoints = engines.iter().enumerate().map(endpoint).collect();
        change(&mut config);
        Self::start(config, Arc::default()).await
    }

    /// Engines as endpoints `e0`, `e1`, … of the roster, each on a node of its own: `n0`, `n1`, …
    pub(crate) async fn of_roster(engines: &[&Engine], change: impl FnOnce(&mut Config)) -> Self {
        let directory = Arc::<Directory>::default();
        for (number, engine) in engines.iter().enumerate() {
            directory.put(&format!("e{number}"), &format!("n{number}"), &engine.url());
        }
        let mut config = config();
        change(&mut config);
        Self::start(config, directory).await
    }

    /// A router that is told of its endpoints by metadata.
    pub(crate) async fn of_metadata(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let router = Router::bind(config, &Telemetry::for_tests()).await.unwrap();
        Self { router, client: client(), directory: Arc::default() }
    }

    async fn start(config: Config, directory: Arc<Directory>) -> Self {
        let residency: Arc<dyn Residency> = Arc::clone(&directory) as _;
        let router = Router::bind_with(config, &Telemetry::for_tests(), residency).await.unwrap();
        Self { router, client: client(), directory }
    }

    pub(crate) fn request(&self, path: &str, body: &str) -> Request<Full<Bytes>> {
        let uri = format!("http://{}{path}", self.router.http_addr());
        Request::post(uri).header("content-type", "application/json").body(Full::from(body.to_owned())).unwrap()
    }

    /// The head of an answer.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Response<Incoming> {
        soon(self.client.request(self.request(path, body))).await.unwrap()
    }

    /// As [`Cluster::post`], while the test does something else.
    pub(crate) fn posting(&self, path: &str, body: &str) -> tokio::task::JoinHandle<Response<Incoming>> {
        self.sending(self.request(path, body))
    }

    pub(crate) fn sending(&self, request: Request<Full<Bytes>>) -> tokio::task::JoinHandle<Response<Incoming>> {
        let client = self.client.clone();
        tokio::spawn(async move { client.request(request).await.unwrap() })
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Incoming> {
        let uri = format!("http://{}{path}", self.router.http_addr()).parse().unwrap();
        soon(self.client.get(uri)).await.unwrap()
    }

    /// A page of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let uri = format!("http://{}{path}", self.router.admin_addr()).parse().unwrap();
        text(soon(self.client.get(uri)).await.unwrap()).await
    }

    /// A line of the metrics page, once it says so.
    pub(crate) async fn metric(&self, line: &str) {
        soon(async {
            while !self.admin("/metrics").await.lines().any(|there| there == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A chat of one message.
pub(crate) fn chat(content: &str, stream: bool) -> String {
    serde_json::json!({"model": "sim-8b", "stream": stream, "messages": [{"role": "user", "content": content}]})
        .to_string()
}

/// Which endpoint answered.
pub(crate) fn endpoint<B>(response: &Response<B>) -> String {
    response.headers()["x-weft-endpoint"].to_str().unwrap().to_owned()
}

/// The rest of an answer.
pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(soon(response.collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The next chunk of an answer.
pub(crate) async fn chunk(response: &mut Response<Incoming>) -> String {
    let frame = soon(response.body_mut().frame()).await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

pub(crate) fn tokenizer() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../weft/assets/sim-8b")
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn config() -> Config {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    Config {
        http: anywhere,
        admin: anywhere,
        policy: Policy::Weft,
        models: vec![ModelConfig { name: "sim-8b".to_owned(), folder: tokenizer() }],
        health: HealthConfig { every: Duration::from_millis(20), ..HealthConfig::default() },
        limits: Limits { first_byte_within: Duration::from_secs(60), ..Limits::default() },
        debug_headers: true,
        ..Config::default()
    }
}

/// The directory, with the index that metadata and its followers use.
pub(crate) struct Directory {
    roster: watch::Sender<Arc<Roster>>,
    index: Mutex<PrefixIndex>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { roster: watch::Sender::new(Arc::default()), index: Mutex::default() }
    }
}

impl Residency for Directory {
    fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>) {
        (self.index.lock().leading(prefix), Arc::clone(&self.roster.borrow()))
    }

    fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }
}

impl Directory {
    /// Puts an endpoint, with its device holder, and the host holder of its node.
    pub(crate) fn put(&self, endpoint: &str, node: &str, url: &str) {
        let id: EndpointId = endpoint.parse().unwrap();
        let device = HolderKey::Device { endpoint: id.clone(), rank: 0 };
        let host = HolderKey::Node { node: node.parse().unwrap(), tier: Tier::Host };
        let spec = EndpointSpec {
            id: id.clone(),
            incarnation: Incarnation::new(1),
            url: url.to_owned(),
            node: Some(node.parse().unwrap()),
            ranks: 1,
            contracts: vec![contract()],
        };
        self.change(|roster| {
            roster.endpoints.insert(id, spec);
            for key in [device, host] {
                let holder = HolderId::new(u32::try_from(roster.holders.len()).unwrap());
                let (generation, incarnation) = (Generation::new(1), Incarnation::new(1));
                roster.holders.insert(holder, HolderGrant { key, holder, generation, incarnation });
            }
        });
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Roster)) {
        self.roster.send_modify(|roster| change(Arc::make_mut(roster)));
    }

    /// Puts the first blocks of a prompt where `holder` says: `e0:0/device`, `n1/host`.
    pub(crate) fn store(&self, holder: &str, tokens: &[u32], blocks: usize) {
        self.store_salted("", holder, tokens, blocks);
    }

    /// As [`Directory::store`], under a tenant's salt.
    pub(crate) fn store_salted(&self, salt: &str, holder: &str, tokens: &[u32], blocks: usize) {
        let roster = Arc::clone(&self.roster.borrow());
        let grant = roster.holders.values().find(|grant| grant.key.to_string() == holder).unwrap();
        let hashes = BlockHasher::new(&contract().model_key.with_salt(salt)).prefix(tokens);
        assert!(hashes.len() >= blocks, "the prompt has {} blocks only", hashes.len());
        for hash in &hashes[..blocks] {
            self.index.lock().apply(grant.holder, Change::Stored(hash.index_key()));
        }
    }
}

pub(crate) fn contract() -> Contract {
    let text = str::to_owned;
    Contract {
        model_key: ModelKey {
            model: text("sim-8b"),
            revision: text("sim-1"),
            adapter: String::new(),
            salt: String::new(),
            layout: text("sim:u8:L1:H1:D1:tp1"),
            block_tokens: BlockSize::DEFAULT,
        },
        parts: Vec::new(),
        aliases: vec![text("sim-8b-latest")],
        tokenizer: String::new(),
        chat_template: String::new(),
    }
}
