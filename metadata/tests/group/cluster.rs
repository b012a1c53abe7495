//! A group of members, and callers of every role.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weft_index::{Change, Report, ReportAck, ReportForm};
use weft_metadata::{Config, Metadata};
use weft_metadata_proto::v1::{
    JoinRequest, Joined, LookupRequest, LookupResponse, PutEndpointRequest, Reply, ReportRequest, StatusRequest,
    StatusResponse, method,
};
use weft_service::certs::Ca;
use weft_service::config::IdentityFiles;
use weft_service::telemetry::Telemetry;
use weft_transport::{CallError, Fabric, Identity, Metrics, Profile, Target};
use weft_types::rpc::Method;
use weft_types::{
    BlockSize, ByteSize, Contract, EndpointSpec, HolderGrant, Incarnation, IndexKey, MemberId, ModelKey, NodeSpec,
    Part, Role, ShardId, Tier,
};

/// Far beyond what anything here takes: a test that reaches it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long one member is given before the next is asked: a dead one is silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Between two looks at something that has no event to wait for from outside.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) const SHARD: ShardId = ShardId::new(0);

/// A group under test.
pub(crate) struct Cluster {
    folder: TempDir,
    ca: Ca,
    /// Members 1 to 3 are configured from the start; the others are to be added.
    addrs: BTreeMap<MemberId, SocketAddr>,
    running: BTreeMap<u64, Running>,
    alive: Alive,
    adjust: fn(&mut Config),
}

/// Who runs, as callers know it.
type Alive = Arc<Mutex<BTreeSet<u64>>>;

struct Running {
    runtime: Runtime,
    metadata: Metadata,
    telemetry: Telemetry,
}

/// A process that calls the group.
#[derive(Clone)]
pub(crate) struct Caller {
    fabric: Fabric,
    addrs: BTreeMap<MemberId, SocketAddr>,
    alive: Alive,
    /// Who answered as the leader last.
    leader: Arc<AtomicU64>,
}

impl Cluster {
    /// Three members, all started.
    pub(crate) async fn start(adjust: fn(&mut Config)) -> Self {
        let mut cluster = Self::prepare(adjust);
        for member in 1..=3 {
            cluster.run(member).await;
        }
        cluster
    }

    /// Three members, none started.
    pub(crate) fn prepare(adjust: fn(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::init(folder.path(), "test").unwrap();
        // Held together, so that they differ; then let go for the members to bind.
        // An address of its own, so that nobody else takes a port while its member is down.
        static CLUSTERS: AtomicU16 = AtomicU16::new(1);
        let [high, low] = CLUSTERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let ip = Ipv4Addr::new(127, 79, high, low);
        let sockets: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind((ip, 0)).unwrap()).collect();
        let addrs = sockets.iter().map(|socket| socket.local_addr().unwrap());
        let addrs = (1..).map(MemberId::new).zip(addrs).collect();
        Self { folder, ca, addrs, running: BTreeMap::new(), alive: Alive::default(), adjust }
    }

    pub(crate) fn data(&self, member: u64) -> PathBuf {
        self.folder.path().join(format!("data-{member}"))
    }

    pub(crate) fn addr(&self, member: u64) -> SocketAddr {
        self.addrs[&MemberId::new(member)]
    }

    /// Id of a member's data directory, from its `member` file.
    pub(crate) fn disk(&self, member: u64) -> u64 {
        self.owner(member, 2)
    }

    /// Id of the group that it belongs to, likewise.
    pub(crate) fn group(&self, member: u64) -> u64 {
        self.owner(member, 3)
    }

    fn owner(&self, member: u64, word: usize) -> u64 {
        let owner = std::fs::read_to_string(self.data(member).join("member")).unwrap();
        u64::from_str_radix(owner.split_whitespace().nth(word).unwrap(), 16).unwrap()
    }

    /// Waits until a member says on its admin port that it waits for others to form a group.
    pub(crate) async fn wait_until_it_waits(&self, member: u64) {
        let addr = self.running[&member].metadata.admin_addr();
        let asking = async {
            while !ready(addr).await.contains("a first start needs all configured members") {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("it never said that it waits");
    }

    fn identity(&self, role: Role, name: &str) -> IdentityFiles {
        let files = self.ca.issue_to(self.folder.path(), role.as_str(), name, 1).unwrap();
        IdentityFiles { cert: files.cert, key: files.key, ca: Ca::files(self.folder.path()).0 }
    }

    pub(crate) fn config(&self, member: u64) -> Config {
        let id = MemberId::new(member);
        let identity = self.identity(Role::Metadata, &member.to_string());
        let mut members = self.addrs.clone();
        members.retain(|other, _| other.get() <= 3 || *other == id);
        let mut config = Config::new(id, members, self.data(member), identity);
        config.fabric = self.addrs[&id];
        config.admin = "127.0.0.1:0".parse().unwrap();
        config.wal.segment = ByteSize::from_mib(1);
        // Tests share a machine with builds: a member that is not scheduled for half a second must not cost its leadership.
        config.raft.heartbeat = Duration::from_millis(150);
        config.raft.election_min = Duration::from_millis(600);
        config.raft.election_max = Duration::from_millis(1200);
        // Nodes here keep alive only where that is what is tested.
        config.node_lease = 10 * PATIENCE;
        (self.adjust)(&mut config);
        config
    }

    /// Starts a member on a runtime of its own.
    pub(crate) async fn run(&mut self, member: u64) {
        let config = self.config(member);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let telemetry = Telemetry::for_tests();
        let for_member = telemetry.clone();
        let binding = runtime.spawn(async move { Metadata::bind(config, &for_member).await });
        let metadata = binding.await.unwrap().unwrap_or_else(|error| panic!("member {member}: {error}"));
        self.running.insert(member, Running { runtime, metadata, telemetry });
        self.alive.lock().insert(member);
    }

    /// Kills a member: its runtime goes, with every task where it stands.
    pub(crate) async fn kill(&mut self, member: u64) {
        self.alive.lock().remove(&member);
        let Running { runtime, metadata, .. } = self.running.remove(&member).unwrap();
        tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(PATIENCE);
            drop(metadata);
        })
        .await
        .unwrap();
    }

    /// Stops a member as an operator would.
    pub(crate) async fn drain(&mut self, member: u64) {
        self.alive.lock().remove(&member);
        let Running { runtime, metadata, .. } = self.running.remove(&member).unwrap();
        runtime.spawn(metadata.drain(Duration::from_secs(10))).await.unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }

    /// Value of a metric of a member, summed over labels.
    pub(crate) fn metric(&self, member: u64, name: &str) -> f64 {
        let families = self.running[&member].telemetry.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no metric {name}"));
        family.get_metric().iter().map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }

    /// Waits until a running member is as it should be, as seen from outside.
    pub(crate) async fn wait_until(&self, member: u64, reached: impl Fn(&Self) -> bool) {
        let looking = async {
            while !reached(self) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("member {member} never got there"));
    }

    /// Value of a counter's series with this label.
    pub(crate) fn labelled(&self, member: u64, name: &str, label: &str) -> f64 {
        let families = self.running[&member].telemetry.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no metric {name}"));
        let named = |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|pair| pair.value() == label);
        family.get_metric().iter().filter(named).map(|metric| metric.get_counter().get_value()).sum()
    }

    pub(crate) fn caller(&self, role: Role, name: &str) -> Caller {
        self.caller_with_certificate(role, name).0
    }

    /// A caller, and its certificate in PEM.
    pub(crate) fn caller_with_certificate(&self, role: Role, name: &str) -> (Caller, String) {
        let pem = self.identity(role, name).read().unwrap();
        let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca).unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new());
        let fabric = Fabric::bind("127.0.0.1:0".parse().unwrap(), Profile::Control, &identity, metrics).unwrap();
        let (addrs, alive, leader) = (self.addrs.clone(), self.alive.clone(), Arc::new(AtomicU64::new(1)));
        (Caller { fabric, addrs, alive, leader }, pem.cert)
    }

    /// The member that leads, once there is one that a majority follows.
    pub(crate) async fn leader(&self) -> u64 {
        let admin = self.caller(Role::Admin, "observer");
        let looking = async {
            loop {
                for member in self.running.keys() {
                    if let Ok(status) = admin.status(*member).await
                        && let Some(leader) = status.leader.filter(|leader| self.running.contains_key(&leader.get()))
                        && leader.get() == *member
                    {
                        return *member;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("no leader was elected")
    }

    /// A running member that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.running.keys().find(|member| **member != leader).unwrap()
    }
}

/// What `/ready` of an admin port answers, head and all.
async fn ready(addr: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.runtime.shutdown_background();
        }
    }
}

impl Caller {
    pub(crate) fn target(&self, member: u64) -> Target {
        let name = Some(member.to_string().parse().unwrap());
        Target { addr: self.addrs[&MemberId::new(member)], role: Role::Metadata, name }
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    pub(crate) async fn call<M: Method>(&self, member: u64, request: &M::Request) -> Result<M::Response, CallError> {
        self.fabric.call::<M>(&self.target(member), request, ANSWER_WITHIN).await
    }

    /// Asks one member after another until one answers as the leader.
    pub(crate) async fn ask<M: Method<Response = Reply<T>>, T>(&self, request: &M::Request) -> T {
        let asking = async {
            let mut member = self.leader.load(Ordering::Relaxed);
            loop {
                match self.call::<M>(member, request).await {
                    Ok(Reply::Done(answer)) => {
                        self.leader.store(member, Ordering::Relaxed);
                        return answer;
                    }
                    Ok(Reply::Refused(reason)) => panic!("{}: refused: {reason}", M::NAME),
                    Ok(Reply::Conflict(conflict)) => panic!("{}: {conflict}", M::NAME),
                    Ok(Reply::NotLeader { .. }) | Err(_) => member = self.next(member),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        answer.unwrap_or_else(|_| panic!("{}: no leader answered", M::NAME))
    }

    /// Who runs and comes after `member`, round and round.
    fn next(&self, member: u64) -> u64 {
        let alive = self.alive.lock();
        alive.range(member + 1..).next().or(alive.first()).copied().unwrap_or(member)
    }

    pub(crate) async fn status(&self, member: u64) -> Result<StatusResponse, CallError> {
        self.call::<method::Status>(member, &StatusRequest { shard: SHARD }).await
    }

    /// Joins as a node with a host tier; the grant of that tier.
    pub(crate) async fn join(&self, name: &str, incarnation: u64) -> HolderGrant {
        let request = JoinRequest { shard: SHARD, node: node(name, incarnation) };
        let Joined { mut grants, .. } = self.ask::<method::Join, _>(&request).await;
        assert_eq!(grants.len(), 1, "one tier, one grant");
        grants.remove(0)
    }

    /// Puts an engine at a node, with a model of that name.
    pub(crate) async fn put_endpoint(&self, id: &str, node: &str, model: &str) -> Vec<HolderGrant> {
        let model_key = ModelKey {
            model: model.into(),
            revision: "1".into(),
            adapter: String::new(),
            salt: String::new(),
            layout: "test".into(),
            block_tokens: BlockSize::DEFAULT,
        };
        let contract = Contract {
            model_key,
            parts: vec![Part { bytes: 4096, ranks: vec![0] }],
            aliases: Vec::new(),
            tokenizer: String::new(),
            chat_template: String::new(),
        };
        let endpoint = EndpointSpec {
            id: id.parse().unwrap(),
            incarnation: Incarnation::new(1),
            url: format!("http://{id}"),
            node: Some(node.parse().unwrap()),
            ranks: 1,
            contracts: vec![contract],
        };
        self.ask::<method::PutEndpoint, _>(&PutEndpointRequest { shard: SHARD, endpoint }).await
    }

    pub(crate) async fn report(&self, reports: Vec<Report>) -> Vec<ReportAck> {
        self.ask::<method::Report, _>(&ReportRequest { shard: SHARD, reports }).await
    }

    pub(crate) async fn lookup(&self, member: u64, prefix: &[IndexKey]) -> LookupResponse {
        let request = LookupRequest { shard: SHARD, prefix: prefix.to_vec() };
        self.call::<method::Lookup>(member, &request).await.unwrap()
    }

    /// Waits until a member's applied state has all of `prefix` at one holder.
    pub(crate) async fn wait_for(&self, member: u64, prefix: &[IndexKey]) {
        let looking = async {
            loop {
                let request = LookupRequest { shard: SHARD, prefix: prefix.to_vec() };
                if let Ok(found) = self.call::<method::Lookup>(member, &request).await
                    && found.matches.first().is_some_and(|first| first.blocks as usize == prefix.len())
                {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("member {member} never had all {} blocks", prefix.len()));
    }
}

pub(crate) fn node(name: &str, incarnation: u64) -> NodeSpec {
    NodeSpec {
        id: name.parse().unwrap(),
        incarnation: Incarnation::new(incarnation),
        fabric: "127.0.0.1:7410".parse().unwrap(),
        bulk: "127.0.0.1:7412".parse().unwrap(),
        capacity: BTreeMap::from([(Tier::Host, ByteSize::from_mib(64))]),
        labels: BTreeMap::new(),
    }
}

/// A block by number.
pub(crate) fn key(number: u64) -> IndexKey {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    IndexKey::from_bytes(bytes)
}

/// Blocks 1 to `count`.
pub(crate) fn keys(count: u64) -> Vec<IndexKey> {
    (1..=count).map(key).collect()
}

/// Report `number` of a holder: it stored the block of that number.
pub(crate) fn stored(grant: &HolderGrant, number: u64) -> Report {
    Report {
        holder: grant.holder,
        generation: grant.generation,
        incarnation: grant.incarnation,
        number,
        form: ReportForm::default(),
        changes: vec![Change::Stored(key(number))],
    }
}
