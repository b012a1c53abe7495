//! Three metadata members as processes on loopback, with mutual TLS and fsync, for the benches that measure the group.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::statfs;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::StatusResponse;
use weft_service::certs::Ca;
use weft_transport::{Fabric, Identity, Metrics, Profile, Target};
use weft_types::Role;

use crate::http;
use crate::up::child::{Child, Process};

/// Members of the group.
pub(crate) const MEMBERS: usize = 3;
/// Longest wait for the group to come up, for a member to answer, or for all of them to have applied the same.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what has no event to wait for from outside.
const PAUSE: Duration = Duration::from_millis(20);
/// Where the members are: not where this machine's other processes get their ports from, so that one which is started again
/// finds its own free.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 1);
/// Log lines shown of a member that did not come up.
const TAIL_LINES: usize = 12;
/// What `statfs` says of a file system in memory: syncing it costs nothing, and shows nothing.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A running group. Dropping it kills the members and removes their files.
pub(crate) struct Members {
    folder: TempDir,
    ca: Ca,
    fabric: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    processes: Vec<Process>,
    running: Vec<Child>,
}

/// What one member's `/metrics` said: the sum over labels, by name.
pub(crate) struct Counters(BTreeMap<String, f64>);

impl Members {
    /// Starts three members; `settings` go into the configuration of each.
    pub(crate) async fn start(settings: &Map<String, Value>) -> anyhow::Result<Self> {
        let folder = folder()?;
        let ca = Ca::init(folder.path(), "bench")?;
        let (fabric, admin) = (free_ports(udp)?, free_ports(tcp)?);
        let mut members = Self { folder, ca, fabric, admin, processes: Vec::new(), running: Vec::new() };
        members.processes = (0..MEMBERS).map(|member| members.process(member, settings)).collect::<Result<_, _>>()?;
        members.running = members.processes.iter().map(Process::start).collect::<Result<_, _>>()?;
        for member in 0..MEMBERS {
            members.ready(member).await?;
        }
        Ok(members)
    }

    /// SIGKILL; returns once the process is gone.
    pub(crate) async fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        let name = &self.processes[member].name;
        self.running[member].kill().await.with_context(|| format!("cannot kill {name}"))
    }

    /// Starts a member that was killed, and waits until it follows a leader, or leads.
    pub(crate) async fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        self.spawn(member)?;
        self.ready(member).await
    }

    /// Starts a member that was killed, and waits for nothing.
    pub(crate) fn spawn(&mut self, member: usize) -> anyhow::Result<()> {
        self.running[member] = self.processes[member].start()?;
        Ok(())
    }

    /// Stops all of them gently and starts them with other settings.
    pub(crate) async fn reconfigure(&mut self, settings: &Map<String, Value>) -> anyhow::Result<()> {
        futures_util::future::join_all(std::mem::take(&mut self.running).into_iter().map(Child::stop)).await;
        self.processes = (0..MEMBERS).map(|member| self.process(member, settings)).collect::<Result<_, _>>()?;
        self.running = self.processes.iter().map(Process::start).collect::<Result<_, _>>()?;
        for member in 0..MEMBERS {
            self.ready(member).await?;
        }
        Ok(())
    }

    /// Where a member keeps its log and snapshots.
    pub(crate) fn data(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("metadata-{}", member + 1))
    }

    /// Folder on the device that the members write to.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Fabric addresses, in order of member.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.fabric.clone()
    }

    /// A member, by number from 0.
    pub(crate) fn target(&self, member: usize) -> Target {
        Target { addr: self.fabric[member], role: Role::Metadata, name: None }
    }

    /// A socket of its own with a certificate of its own.
    pub(crate) fn caller(&self, role: Role, name: &str) -> anyhow::Result<Fabric> {
        let issued = self.ca.issue(role.as_str(), name, 1)?;
        let identity = Identity::from_pem(&issued.cert, &issued.key, self.ca.cert_pem())?;
        let metrics = Metrics::register(&prometheus::Registry::new());
        Ok(Fabric::bind("127.0.0.1:0".parse()?, Profile::Control, &identity, metrics)?)
    }

    /// Certificate, key and CA as files, for a process's configuration.
    pub(crate) fn identity(&self, role: Role, name: &str) -> anyhow::Result<Value> {
        let files = self.ca.issue_to(self.folder.path(), role.as_str(), name, 1)?;
        Ok(json!({"cert": files.cert, "key": files.key, "ca": Ca::files(self.folder.path()).0}))
    }

    /// How every member is.
    pub(crate) async fn statuses(&self, operator: &Fabric) -> anyhow::Result<Vec<StatusResponse>> {
        let client = MetadataClient::new(operator.clone(), self.addrs());
        let mut statuses = Vec::new();
        for addr in &self.fabric {
            statuses.push(client.status(*addr, PATIENCE).await?);
        }
        Ok(statuses)
    }

    /// How every member is, once all of them have applied the same.
    pub(crate) async fn settled(&self, operator: &Fabric) -> anyhow::Result<Vec<StatusResponse>> {
        let settling = async {
            loop {
                let statuses = self.statuses(operator).await?;
                let first = &statuses[0];
                if statuses.iter().all(|status| status.applied == first.applied && status.last_log == first.applied) {
                    return Ok(statuses);
                }
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, settling).await.context("the members do not come to the same state")?
    }

    /// Which member leads.
    pub(crate) async fn leader(&self, operator: &Fabric) -> anyhow::Result<usize> {
        let leading = async {
            loop {
                for member in 0..MEMBERS {
                    if let Ok(status) = self.status(operator, member).await
                        && status.leader == Some(status.member)
                    {
                        return member;
                    }
                }
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, leading).await.context("no member leads")
    }

    /// How one member is; it may be gone.
    pub(crate) async fn status(&self, operator: &Fabric, member: usize) -> anyhow::Result<StatusResponse> {
        let client = MetadataClient::new(operator.clone(), self.addrs());
        Ok(client.status(self.fabric[member], PATIENCE).await?)
    }

    /// What a member counts.
    pub(crate) async fn counters(&self, member: usize) -> anyhow::Result<Counters> {
        let (status, text) = http::get(&format!("http://{}/metrics", self.admin[member])).await?;
        anyhow::ensure!(status == 200, "member {}: /metrics answers {status}", member + 1);
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((series, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                let name = series.split('{').next().unwrap_or(series);
                *sums.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Ok(Counters(sums))
    }

    /// Processor time that a member has used, in seconds.
    pub(crate) fn cpu_seconds(&self, member: usize) -> anyhow::Result<f64> {
        cpu_seconds(&self.running[member].pid().to_string())
    }

    /// Stops the members.
    pub(crate) async fn stop(mut self) {
        futures_util::future::join_all(std::mem::take(&mut self.running).into_iter().map(Child::stop)).await;
    }

    fn process(&self, member: usize, settings: &Map<String, Value>) -> anyhow::Result<Process> {
        let id = (member + 1).to_string();
        let all: Map<_, _> = (1..).zip(&self.fabric).map(|(id, addr)| (id.to_string(), json!(addr))).collect();
        let mut config = settings.clone();
        config.extend([
            ("member".to_owned(), json!(member + 1)),
            ("members".to_owned(), Value::Object(all)),
            ("fabric".to_owned(), json!(self.fabric[member])),
            ("admin".to_owned(), json!(self.admin[member])),
            ("data".to_owned(), json!(self.data(member))),
            ("identity".to_owned(), self.identity(Role::Metadata, &id)?),
        ]);
        let file = self.folder.path().join(format!("metadata-{id}.toml"));
        fs::write(&file, toml::to_string_pretty(&config)?)?;
        let log = self.folder.path().join(format!("metadata-{id}.log"));
        let probed = self.admin[member];
        Ok(Process { name: format!("member {id}"), role: "metadata", config: file, log, probed, path: "/ready" })
    }

    async fn ready(&mut self, member: usize) -> anyhow::Result<()> {
        let Err(error) = self.polled(member).await else { return Ok(()) };
        let process = &self.processes[member];
        bail!("{} did not come up ({error:#}); its log ends with\n{}", process.name, process.log_tail(TAIL_LINES))
    }

    async fn polled(&mut self, member: usize) -> anyhow::Result<()> {
        let url = format!("http://{}/ready", self.admin[member]);
        let polling = async {
            while !matches!(http::get(&url).await, Ok((200, _))) {
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            polled = timeout(PATIENCE, polling) => polled.context("not ready in time"),
            ended = self.running[member].wait() => bail!("it ended: {}", ended?),
        }
    }
}

impl Counters {
    /// A counter's value; 0 if there is none of the name.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }
}

/// Processor time that a process has used, in seconds; "self" is this one.
pub(crate) fn cpu_seconds(pid: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The command's name, in parentheses, may have spaces; user and system ticks are the 12th and 13th words behind it.
    let (_, words) = stat.rsplit_once(')').context("no process status")?;
    let ticks: f64 = words.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// A folder on a disk: where temporary files go, unless that is memory, else here.
fn folder() -> anyhow::Result<TempDir> {
    let temporary = TempDir::with_prefix("weft-bench-").context("cannot make a temporary folder")?;
    let kind = statfs(temporary.path()).map(|fs| fs.f_type.cast_unsigned());
    if kind.is_ok_and(|kind| kind != TMPFS_MAGIC) {
        return Ok(temporary);
    }
    TempDir::with_prefix_in("weft-bench-", ".").context("the temporary folder is in memory, and none can be made here")
}

/// As many free ports as there are members, held together so that they differ, then let go for the members to bind.
fn free_ports<S>(bind: fn() -> std::io::Result<(S, SocketAddr)>) -> std::io::Result<Vec<SocketAddr>> {
    let bound = (0..MEMBERS).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    Ok(bound.into_iter().map(|(_, addr)| addr).collect())
}

fn udp() -> std::io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((LOOPBACK, 0))?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}

fn tcp() -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind((LOOPBACK, 0))?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}
