//! A router that follows a real metadata member over QUIC.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use weft_index::{Change, Report, ReportAck, ReportForm};
use weft_metadata::Metadata;
use weft_metadata_client::MetadataClient;
use weft_router::{BindError, Config, Router};
use weft_service::certs::Ca;
use weft_service::config::IdentityFiles;
use weft_service::telemetry::Telemetry;
use weft_transport::{Fabric, Identity, Metrics, Profile};
use weft_types::{
    ApiKey, BlockHasher, ByteSize, EndpointSpec, HolderGrant, Incarnation, MemberId, NodeSpec, Operated,
    OperatorAction, Role, TenantId, TenantSettings, Tier,
};

use crate::cluster::{CHAT, Cluster, chat, contract, endpoint, soon};
use crate::engine::Engine;
use crate::prefix::{asked, is, prompt};

const DEADLINE: Duration = Duration::from_secs(20);

fn identity(folder: &Path, ca: &Ca, role: Role, name: &str) -> IdentityFiles {
    let files = ca.issue_to(folder, role.as_str(), name, 1).unwrap();
    IdentityFiles { cert: files.cert, key: files.key, ca: Ca::files(folder).0 }
}

async fn member(folder: &Path, ca: &Ca) -> (Metadata, SocketAddr) {
    let addr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (id, identity) = (MemberId::new(1), identity(folder, ca, Role::Metadata, "1"));
    let mut config = weft_metadata::Config::new(id, BTreeMap::from([(id, addr)]), folder.join("data"), identity);
    config.fabric = addr;
    config.admin = "127.0.0.1:0".parse().unwrap();
    config.node_lease = 10 * DEADLINE;
    (Metadata::bind(config, &Telemetry::for_tests()).await.unwrap(), addr)
}

/// Calls metadata as a node.
fn node(folder: &Path, ca: &Ca, name: &str, member: SocketAddr) -> MetadataClient {
    client(folder, ca, Role::Node, name, member)
}

fn client(folder: &Path, ca: &Ca, role: Role, name: &str, member: SocketAddr) -> MetadataClient {
    let pem = identity(folder, ca, role, name).read().unwrap();
    let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new());
    let fabric = Fabric::bind("127.0.0.1:0".parse().unwrap(), Profile::Control, &identity, metrics).unwrap();
    MetadataClient::new(fabric, vec![member])
}

/// A node joins with its host tier.
async fn join(node: &MetadataClient, name: &str) -> HolderGrant {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let spec = NodeSpec {
        id: name.parse().unwrap(),
        incarnation: Incarnation::new(1),
        fabric: nowhere,
        bulk: nowhere,
        capacity: BTreeMap::from([(Tier::Host, ByteSize::from_mib(1))]),
        labels: BTreeMap::new(),
    };
    node.join(&spec, DEADLINE).await.unwrap().grants.remove(0)
}

async fn put(node: &MetadataClient, name: &str, engine: &Engine, on: &str) {
    let mut contract = contract();
    contract.parts = vec![weft_types::Part { bytes: 64, ranks: vec![0] }];
    let spec = EndpointSpec {
        id: name.parse().unwrap(),
        incarnation: Incarnation::new(1),
        url: engine.url(),
        node: Some(on.parse().unwrap()),
        ranks: 1,
        contracts: vec![contract],
    };
    node.put_endpoint(&spec, DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_and_prefixes_come_from_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::init(folder.path(), "test").unwrap();
    let (metadata, addr) = member(folder.path(), &ca).await;
    let (mut e1, mut e2) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_metadata(|config| {
        config.metadata = vec![addr];
        config.fabric = "127.0.0.1:0".parse().unwrap();
        config.identity = Some(identity(folder.path(), &ca, Role::Router, "router-1"));
    })
    .await;

    let [n1, n2] = ["n1", "n2"].map(|name| node(folder.path(), &ca, name, addr));
    let host = join(&n1, "n1").await;
    join(&n2, "n2").await;
    put(&n1, "e1", &e1, "n1").await;
    put(&n2, "e2", &e2, "n2").await;
    cluster.metric("weft_router_endpoints{state=\"healthy\"} 2").await;

    let (content, tokens) = prompt();
    let hashes = BlockHasher::new(&contract().model_key).prefix(&tokens);
    let report = Report {
        holder: host.holder,
        generation: host.generation,
        incarnation: host.incarnation,
        number: 1,
        form: ReportForm::default(),
        changes: hashes.iter().take(4).map(|hash| Change::Stored(hash.index_key())).collect(),
    };
    assert_eq!(n1.report(&[report], DEADLINE).await.unwrap(), [ReportAck::Applied { number: 1 }]);
    cluster.metric("weft_follower_blocks 4").await;
    let mut engines = [&mut e1, &mut e2];
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 256));

    // With metadata gone, routing goes on with what was known last.
    soon(metadata.drain(Duration::from_secs(5))).await;
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 256));
    let answering = cluster.posting(CHAT, &chat(&content, false));
    e1.asked().await.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e1");
    soon(cluster.router.drain(Duration::from_secs(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_and_go_with_metadatas_tenants() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::init(folder.path(), "test").unwrap();
    let engine = Engine::start().await;
    // Nobody has said yet who may call: a key that is not known may be somebody's, and no key may be needed.
    let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cluster = Cluster::of_metadata(|config| {
        config.metadata = vec![nowhere.local_addr().unwrap()];
        config.fabric = "127.0.0.1:0".parse().unwrap();
        config.identity = Some(identity(folder.path(), &ca, Role::Router, "router-0"));
    })
    .await;
    assert_eq!(cluster.get("/v1/models").await.status(), 503);
    assert_eq!(models(&cluster, &ApiKey::new("ci".parse().unwrap(), [1; 32])).await, 503);

    let (_metadata, addr) = member(folder.path(), &ca).await;
    let cluster = Cluster::of_metadata(|config| {
        config.metadata = vec![addr];
        config.fabric = "127.0.0.1:0".parse().unwrap();
        config.identity = Some(identity(folder.path(), &ca, Role::Router, "router-1"));
    })
    .await;
    let n1 = node(folder.path(), &ca, "n1", addr);
    join(&n1, "n1").await;
    put(&n1, "e1", &engine, "n1").await;
    cluster.metric("weft_router_endpoints{state=\"healthy\"} 1").await;
    until(async || cluster.get("/v1/models").await.status() == 200).await;

    let operator = client(folder.path(), &ca, Role::Admin, "operator", addr);
    let (tenant, key): (TenantId, _) = ("acme".parse().unwrap(), ApiKey::new("ci".parse().unwrap(), [1; 32]));
    let settings = TenantSettings::default();
    let add = OperatorAction::PutTenant { tenant: tenant.clone(), settings, unsalted: false };
    operator.operate(add, DEADLINE).await.unwrap();
    until(async || cluster.get("/v1/models").await.status() == 401).await;
    let add = OperatorAction::AddKey { tenant: tenant.clone(), key: key.id().clone(), hash: key.hash() };
    operator.operate(add, DEADLINE).await.unwrap();
    until(async || models(&cluster, &key).await == 200).await;
    let Operated::Salt(Some(salt)) =
        operator.operate(OperatorAction::ReadSalt { tenant: tenant.clone() }, DEADLINE).await.unwrap()
    else {
        panic!("a tenant has a salt")
    };
    let mut engine = engine;
    let mut request = cluster.request(CHAT, &chat("hello", false));
    request.headers_mut().insert("authorization", format!("Bearer {}", key.reveal()).parse().unwrap());
    let answering = cluster.sending(request);
    let asked = engine.asked().await;
    assert!(String::from_utf8_lossy(&asked.body).contains(&salt.reveal()));
    asked.answer_json("{}");
    assert_eq!(answering.await.unwrap().status(), 200);

    let remove = OperatorAction::RemoveKey { tenant, key: key.id().clone() };
    operator.operate(remove, DEADLINE).await.unwrap();
    until(async || models(&cluster, &key).await == 401).await;
    assert_eq!(cluster.get("/v1/models").await.status(), 401);
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    soon(async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What a caller with this key is answered.
async fn models(cluster: &Cluster, key: &ApiKey) -> u16 {
    let mut request = cluster.request("/v1/models", "");
    *request.method_mut() = http::Method::GET;
    request.headers_mut().insert("authorization", format!("Bearer {}", key.reveal()).parse().unwrap());
    soon(cluster.client.request(request)).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn metadata_without_an_identity_is_refused_by_name() {
    let config = Config { metadata: vec!["127.0.0.1:7400".parse().unwrap()], ..Config::default() };
    let error = Router::bind(config, &Telemetry::for_tests()).await.unwrap_err();
    assert!(matches!(error, BindError::NoIdentity), "{error}");
}
