//! What `weft up` starts: which processes, on which addresses, with which configuration.
//!
//! Every process gets a loopback address of its own, so that all of them serve on their default ports:
//!
//! | address | process |
//! |---|---|
//! | `<subnet>.11` … `.13` | metadata members 1 to 3 |
//! | `<subnet>.21`, `.22` | nodes 1 and 2 |
//! | `<subnet>.31` | router |
//! | `<subnet>.41` … `.44` | engines 1 to 4, two a node |
//! | `<subnet>.32`, `.51` … `.54` | router and engines of the run without weft |

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use weft_service::certs::Ca;
use weft_service::config::IdentityFiles;
use weft_types::{ByteSize, Role};

use super::child::Process;

/// Metadata members.
pub(crate) const MEMBERS: u8 = 3;
/// Node daemons.
pub(crate) const NODES: u8 = 2;
/// Engines, dealt to the nodes in turn.
pub(crate) const ENGINES: u8 = 4;
/// Name of the cluster in its certificates.
const CLUSTER: &str = "up";
/// Certificates of a demonstration live a month; `weft up` issues new ones at every start.
const CERT_DAYS: u32 = 30;

const TOKENIZER: &[u8] = include_bytes!("../../assets/sim-8b/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../assets/sim-8b/tokenizer_config.json");

/// Writes the files of the shipped model into a folder.
pub(crate) fn write_model(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("tokenizer.json"), TOKENIZER)?;
    fs::write(folder.join("tokenizer_config.json"), TOKENIZER_CONFIG)?;
    Ok(())
}

/// Sizes and speeds of the simulated part.
#[derive(Debug, Clone)]
pub(crate) struct Sizing {
    /// Prefill speed of one engine, tokens a second.
    pub(crate) prefill_tokens_per_s: u32,
    /// Device tier of one engine, tokens.
    pub(crate) device_tokens: u64,
    /// KV bytes of a token.
    pub(crate) kv_bytes_per_token: u32,
    /// Host memory of one node.
    pub(crate) host_memory: ByteSize,
    /// Of which one contract gets so much.
    pub(crate) contract_memory: Option<ByteSize>,
}

/// Folders, addresses and process descriptions.
#[derive(Debug)]
pub(crate) struct Plan {
    state: PathBuf,
    subnet: [u8; 3],
    sizing: Sizing,
}

impl Plan {
    /// For a state folder and the first three octets of a loopback subnet.
    pub(crate) fn new(state: PathBuf, subnet: [u8; 3], sizing: Sizing) -> Self {
        Self { state, subnet, sizing }
    }

    fn addr(&self, host: u8, port: u16) -> SocketAddr {
        let [a, b, c] = self.subnet;
        SocketAddr::from((Ipv4Addr::new(a, b, c, host), port))
    }

    /// Fabric addresses of the metadata members.
    pub(crate) fn members(&self) -> Vec<SocketAddr> {
        (1..=MEMBERS).map(|member| self.addr(10 + member, 7400)).collect()
    }

    /// Base URL of a router's OpenAI API; `weft`: the one that uses weft.
    pub(crate) fn router_url(&self, weft: bool) -> String {
        format!("http://{}", self.addr(if weft { 31 } else { 32 }, 8080))
    }

    /// Admin URL of a member, a node or the router.
    pub(crate) fn admin_url(&self, role: &str, number: u8) -> String {
        format!("http://{}", self.admin_addr(role, number))
    }

    fn admin_addr(&self, role: &str, number: u8) -> SocketAddr {
        let (tens, port) = match role {
            "metadata" => (10, 7401),
            "node" => (20, 7411),
            _ => (30, 7421),
        };
        self.addr(tens + number, port)
    }

    /// Folder of the shipped model.
    pub(crate) fn model(&self) -> PathBuf {
        Self::model_of(&self.state)
    }

    /// The same, of whatever runs in `state`.
    pub(crate) fn model_of(state: &Path) -> PathBuf {
        state.join("model")
    }

    /// File that lists what runs.
    pub(crate) fn registry(state: &Path) -> PathBuf {
        state.join("up.json")
    }

    /// Folder of CA and certificates.
    fn certs(&self) -> PathBuf {
        Self::certs_of(&self.state)
    }

    /// The same, of whatever runs in `state`.
    pub(crate) fn certs_of(state: &Path) -> PathBuf {
        state.join("certs")
    }

    /// Folder of what the processes keep; it is emptied at every start.
    pub(crate) fn data(&self) -> PathBuf {
        self.state.join("data")
    }

    /// Makes the folders, the CA and the model; empties what a former run left.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        for leftover in [self.data(), self.certs(), self.state.join("logs"), self.state.join("config")] {
            if leftover.exists() {
                fs::remove_dir_all(&leftover).with_context(|| format!("cannot empty {}", leftover.display()))?;
            }
        }
        for folder in [self.data(), self.state.join("logs"), self.state.join("config")] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        write_model(&self.model())?;
        let ca = Ca::init(&self.certs(), CLUSTER)?;
        ca.issue_to(&self.certs(), Role::Admin.as_str(), "operator", CERT_DAYS)?;
        Ok(())
    }

    /// The three metadata members.
    pub(crate) fn metadata(&self) -> anyhow::Result<Vec<Process>> {
        let members: serde_json::Map<String, Value> =
            self.members().iter().zip(1u8..).map(|(addr, id)| (id.to_string(), json!(addr))).collect();
        let each = (1..=MEMBERS).map(|id| {
            let config = json!({
                "member": id,
                "fabric": self.addr(10 + id, 7400),
                "admin": self.addr(10 + id, 7401),
                "data": self.data().join(format!("metadata-{id}")),
                "members": members,
                "identity": self.identity(Role::Metadata, &id.to_string())?,
            });
            self.process(format!("metadata-{id}"), "metadata", &config, self.admin_addr("metadata", id), "/ready")
        });
        each.collect()
    }

    /// The node daemons.
    pub(crate) fn nodes(&self) -> anyhow::Result<Vec<Process>> {
        let each = (1..=NODES).map(|number| {
            let name = format!("node-{number}");
            let mut config = json!({
                "name": name,
                "fabric": self.addr(20 + number, 7410),
                "bulk": self.addr(20 + number, 7412),
                "admin": self.addr(20 + number, 7411),
                "socket": self.socket(number),
                "state_dir": self.data().join(&name),
                "host_memory": self.sizing.host_memory,
                "metadata": self.members(),
                "identity": self.identity(Role::Node, &name)?,
            });
            if let Some(memory) = self.sizing.contract_memory {
                config["contract_memory"] = json!(memory);
            }
            self.process(name, "node", &config, self.admin_addr("node", number), "/ready")
        });
        each.collect()
    }

    fn socket(&self, node: u8) -> PathBuf {
        self.data().join(format!("node-{node}")).join("socket").join("engine.sock")
    }

    /// The engines: attached to their nodes, or without weft.
    pub(crate) fn engines(&self, weft: bool) -> anyhow::Result<Vec<Process>> {
        let each = (1..=ENGINES).map(|number| {
            let (name, addr) = self.engine(weft, number);
            let mut config = json!({
                "endpoint": name,
                "addr": addr,
                "url": format!("http://{addr}"),
                "model_folder": self.model(),
                "kv_bytes_per_token": self.sizing.kv_bytes_per_token,
                "device_tokens": self.sizing.device_tokens,
                "pace": { "prefill_tokens_per_s": self.sizing.prefill_tokens_per_s },
            });
            if weft {
                config["node_socket"] = json!(self.socket((number - 1) % NODES + 1));
            }
            self.process(name, "engine-sim", &config, addr, "/health")
        });
        each.collect()
    }

    fn engine(&self, weft: bool, number: u8) -> (String, SocketAddr) {
        match weft {
            true => (format!("engine-{number}"), self.addr(40 + number, 8000)),
            false => (format!("plain-engine-{number}"), self.addr(50 + number, 8000)),
        }
    }

    /// The router: following the index, or dealing requests in turn.
    pub(crate) fn router(&self, weft: bool) -> anyhow::Result<Process> {
        let (name, host) = if weft { ("router-1", 31) } else { ("plain-router", 32) };
        let models = json!([{ "name": "sim-8b", "folder": self.model() }]);
        let mut config = json!({
            "name": name,
            "http": self.addr(host, 8080),
            "admin": self.addr(host, 7421),
            "models": models,
            // What shows itself off on loopback asks nobody who they are, whatever tenants are tried out beside it.
            "keys": { "keyless": "always" },
        });
        if weft {
            config["fabric"] = json!(self.addr(host, 7420));
            config["metadata"] = json!(self.members());
            config["identity"] = self.identity(Role::Router, name)?;
        } else {
            config["policy"] = json!("round-robin");
            config["endpoints"] = (1..=ENGINES)
                .map(|number| self.engine(false, number))
                .map(|(name, addr)| json!({ "id": name, "url": format!("http://{addr}"), "models": ["sim-8b"] }))
                .collect();
        }
        self.process(name.to_owned(), "router", &config, self.addr(host, 7421), "/ready")
    }

    /// Identity files of an operator, for `weft status`.
    pub(crate) fn operator(state: &Path) -> IdentityFiles {
        let file = |name: &str| state.join("certs").join(name);
        IdentityFiles { cert: file("admin-operator.pem"), key: file("admin-operator.key"), ca: file("ca.pem") }
    }

    fn identity(&self, role: Role, name: &str) -> anyhow::Result<Value> {
        let files = Ca::load(&self.certs())?.issue_to(&self.certs(), role.as_str(), name, CERT_DAYS)?;
        Ok(json!({ "cert": files.cert, "key": files.key, "ca": Ca::files(&self.certs()).0 }))
    }

    /// `probed` answers 200 on `path` once the process serves.
    fn process(
        &self,
        name: String,
        role: &'static str,
        config: &Value,
        probed: SocketAddr,
        path: &'static str,
    ) -> anyhow::Result<Process> {
        let file = self.state.join("config").join(format!("{name}.toml"));
        fs::write(&file, toml::to_string_pretty(config)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let log = self.state.join("logs").join(format!("{name}.log"));
        Ok(Process { name, role, config: file, log, probed, path })
    }
}
