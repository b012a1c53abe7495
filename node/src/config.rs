//! Configuration of a node daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_service::address;
use weft_service::config::{IdentityFiles, duration};
use weft_types::{BlockSize, ByteSize, EndpointId, NodeId};

use crate::RespConfig;

/// How a node daemon runs. Without `metadata` it stands alone: its engines share its memory, and nobody fetches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the node; the same as in its certificate. No default.
    pub name: NodeId,
    /// UDP address of the fabric (control messages). Default 127.0.0.1:7410. Peers must reach it.
    #[serde(default = "default_fabric")]
    pub fabric: SocketAddr,
    /// UDP address of block streams. Default 127.0.0.1:7412. Peers must reach it.
    #[serde(default = "default_bulk")]
    pub bulk: SocketAddr,
    /// TCP address of the admin port (probes, metrics, state; read-only). Default 127.0.0.1:7411.
    #[serde(default = "default_admin")]
    pub admin: SocketAddr,
    /// Unix socket for engines. Default /run/weft/node.sock. Its directory is made with mode 0700 if missing.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Users that may attach besides ours and root. Default none; any makes the socket connectable by everybody, and this
    /// list decide.
    #[serde(default)]
    pub allow_uids: Vec<u32>,
    /// Shared memory of all contracts together. Default 1GiB. All of it is faulted in, and none given to others.
    #[serde(default = "default_host_memory")]
    pub host_memory: ByteSize,
    /// Shared memory of one contract. Default: all of `host_memory` but for what `resp` has of it, so that a second contract is
    /// refused while engines of the first are attached.
    #[serde(default)]
    pub contract_memory: Option<ByteSize>,
    /// A tier of local flash below host memory. Default none: what leaves host memory, or is in it when the node is killed, is
    /// gone.
    #[serde(default)]
    pub disk: Option<DiskConfig>,
    /// A port that speaks the Redis protocol. Default none.
    #[serde(default)]
    pub resp: Option<RespConfig>,
    /// Where the boot counter is kept. Default /var/lib/weft/node. Lost with it: the counter; start under a new name then.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Fabric addresses of any metadata members; names are looked up once, at start. Default none: the node stands alone.
    #[serde(default, deserialize_with = "address::list")]
    pub metadata: Vec<SocketAddr>,
    /// Certificate, key and CA. Needed with `metadata`.
    #[serde(default)]
    pub identity: Option<IdentityFiles>,
    /// Engines whose KV-cache events are followed, so that routers know what is in their own caches too. Default none.
    #[serde(default)]
    pub engines: Vec<EngineConfig>,
    /// Labels for operators, such as zone or rack. Default none.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Longest fetch from a peer, whatever the engine allows. Default 2s. Worst case: an engine waits that long, then
    /// computes what did not arrive.
    #[serde(default = "default_fetch_deadline", with = "duration")]
    pub fetch_deadline: Duration,
    /// Longest wait for the directory's answer to who holds what. Default 100ms. It is part of the fetch's time.
    #[serde(default = "default_lookup_deadline", with = "duration")]
    pub lookup_deadline: Duration,
    /// Longest wait for metadata to take in a report or a membership change before it is sent again. Default 1s.
    #[serde(default = "default_report_deadline", with = "duration")]
    pub report_deadline: Duration,
    /// How often what a holder holds is compared with what the directory lists of it, and the list put right. Default 60s, a
    /// quarter more or less; `0s`: never. What was lost without anybody's noticing stays wrong for so long.
    #[serde(default = "default_anti_entropy", with = "duration")]
    pub anti_entropy: Duration,
    /// First pause after a peer, or the directory, failed; doubled with each further failure, up to 30 times this. Default
    /// 1s. Meanwhile it is not asked.
    #[serde(default = "default_breaker_pause", with = "duration")]
    pub breaker_pause: Duration,
    /// How long the pins of an engine that is gone are kept when its process cannot be watched (another pid namespace).
    /// Default 30s: longer than any copy takes.
    #[serde(default = "default_quarantine", with = "duration")]
    pub quarantine: Duration,
    /// Copy between host memory and the KV caches of engines that offer them (CUDA IPC), so that engines' processes need not.
    /// Default false. The daemon then needs the GPUs that its engines have, and their process namespace; one that hangs in the
    /// middle of a copy holds up the requests that wait for it.
    #[serde(default)]
    pub gpu_copies: bool,
}

/// The disk tier: blocks that outlive host memory and the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Folder for its files, this node's alone; made if missing. No default. A folder that holds another node's tier is
    /// refused. Without direct I/O in its file system (as on tmpfs), blocks go through the page cache and cost memory twice.
    pub path: PathBuf,
    /// Disk space that it takes, all of it, as it fills; at least 16MiB. No default. Where the file system has less, the tier
    /// stays smaller.
    pub size: ByteSize,
    /// Which blocks are written. `seen_twice`: those that were asked for again since they were stored, stored again after they
    /// had left, or leased; `all`: those that were not asked for again too, before they leave host memory. Default
    /// `seen_twice`, which spares flash.
    #[serde(default)]
    pub admission: DiskAdmission,
}

/// Which blocks are written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAdmission {
    /// Those that earned it.
    #[default]
    SeenTwice,
    /// Every one.
    All,
}

/// Where an engine publishes what it keeps in device memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Name of its endpoint. No default. An engine that attaches under it is followed while it is attached, under its contract.
    pub endpoint: EndpointId,
    /// Address of its events, such as `tcp://127.0.0.1:5557`: `endpoint` in vLLM's and SGLang's `--kv-events-config`. No
    /// default. Each data-parallel rank has one.
    pub kv_events: String,
    /// Where it replays them, `replay_endpoint` there. Default none: a lost event costs all that is known of this engine, and
    /// what it published before it was followed is not known.
    #[serde(default)]
    pub replay: Option<String>,
    /// Topic, `topic` there. Default all.
    #[serde(default)]
    pub topic: String,
    /// Digests of the weights of adapters, as routers hash them, by the engine's names of them. Default none: blocks of requests
    /// with an adapter are left out.
    #[serde(default)]
    pub adapters: BTreeMap<String, String>,
    /// What it serves, if it has no connector and attaches to no node: then the node lists it as an endpoint while it publishes.
    /// Default none.
    #[serde(default)]
    pub serves: Option<ServesConfig>,
}

/// What an engine without a connector serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServesConfig {
    /// Base URL of its OpenAI API, as routers reach it, such as `http://10.0.0.7:8000`. No default.
    pub url: String,
    /// Name of its model. No default.
    pub model: String,
    /// Other names of it. Default none.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Tokens of a block of weft's: a multiple of the engine's blocks. Default 64.
    #[serde(default = "default_block_tokens")]
    pub block_tokens: BlockSize,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn default_block_tokens() -> BlockSize {
    BlockSize::DEFAULT
}

fn default_fabric() -> SocketAddr {
    loopback(7410)
}

fn default_admin() -> SocketAddr {
    loopback(7411)
}

fn default_bulk() -> SocketAddr {
    loopback(7412)
}

fn default_socket() -> PathBuf {
    "/run/weft/node.sock".into()
}

fn default_host_memory() -> ByteSize {
    ByteSize::from_mib(1024)
}

fn default_state_dir() -> PathBuf {
    "/var/lib/weft/node".into()
}

fn default_fetch_deadline() -> Duration {
    Duration::from_secs(2)
}

fn default_lookup_deadline() -> Duration {
    Duration::from_millis(100)
}

fn default_report_deadline() -> Duration {
    Duration::from_secs(1)
}

fn default_anti_entropy() -> Duration {
    Duration::from_secs(60)
}

fn default_breaker_pause() -> Duration {
    Duration::from_secs(1)
}

fn default_quarantine() -> Duration {
    Duration::from_secs(30)
}

impl Config {
    /// A configuration with every default.
    #[must_use]
    pub fn new(name: NodeId) -> Self {
        Self {
            name,
            fabric: default_fabric(),
            bulk: default_bulk(),
            admin: default_admin(),
            socket: default_socket(),
            allow_uids: Vec::new(),
            host_memory: default_host_memory(),
            contract_memory: None,
            disk: None,
            resp: None,
            state_dir: default_state_dir(),
            metadata: Vec::new(),
            identity: None,
            engines: Vec::new(),
            labels: BTreeMap::new(),
            fetch_deadline: default_fetch_deadline(),
            lookup_deadline: default_lookup_deadline(),
            report_deadline: default_report_deadline(),
            anti_entropy: default_anti_entropy(),
            breaker_pause: default_breaker_pause(),
            quarantine: default_quarantine(),
            gpu_copies: false,
        }
    }
}
