//! What is measured: processes between clients and engines, each with its threads on one core.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::cores::Cores;
use crate::up::write_model;

/// A kind of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    /// Ours, by what was sent where.
    Approximate,
    /// Ours, with a tokenizer.
    Exact,
    /// The physical reference: it reads no body.
    Haproxy,
    /// From PyPI, in a virtual environment: the policies that its users run.
    Peer(Peer),
}

/// Another router.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Peer {
    /// Folder of its environment.
    pub(super) folder: &'static str,
    /// Of its bar.
    pub(super) bar: &'static str,
    /// What of its CPU a request ours may take, at most.
    pub(super) goal: f64,
    command: &'static [&'static str],
}

impl Peer {
    /// Those that the guides to routers name first.
    pub(super) const ALL: [Self; 2] = [
        Self {
            folder: "vllm-router",
            bar: "request_cpu_vllm_router",
            goal: 0.5,
            command: &["bin/vllm-router", "--policy", "round_robin", "--log-level", "warning"],
        },
        Self {
            folder: "sglang-router",
            bar: "request_cpu_sglang_router",
            goal: 0.3,
            command: &[
                "bin/python",
                "-m",
                "sglang_router.launch_router",
                "--policy",
                "cache_aware",
                "--log-level",
                "warn",
            ],
        },
    ];
}

/// A running one. Dropping it kills it.
pub(super) struct Proxy {
    pub(super) addr: SocketAddr,
    child: Child,
}

impl Proxy {
    /// Until it has to accept connections: Python's take their time.
    const START_MAX: Duration = Duration::from_secs(60);

    /// Starts one in front of the engines, with its files in `folder`.
    pub(super) fn start(
        kind: Kind,
        engines: &[SocketAddr],
        folder: &Path,
        peers: &Path,
        cores: Cores,
    ) -> anyhow::Result<Self> {
        let [addr, other] = free_addrs()?;
        let mut command = match kind {
            Kind::Approximate | Kind::Exact => ours(kind, addr, other, engines, folder)?,
            Kind::Haproxy => haproxy(addr, engines, folder)?,
            Kind::Peer(peer) => peer.command(addr, other, engines, peers),
        };
        let log = fs::File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A child starts where its parent's thread is: a thread of its own, so that we stay where we are.
        let spawn = || {
            cores.pin_measured();
            command.spawn()
        };
        let child = std::thread::scope(|threads| threads.spawn(spawn).join());
        let child = child.map_err(|_| anyhow::anyhow!("the thread that starts {kind:?} panicked"))?;
        let child = child.with_context(|| format!("cannot start {kind:?}"))?;
        let mut proxy = Self { addr, child };
        proxy.wait().with_context(|| {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            format!("{kind:?} did not start; its log:\n{log}")
        })?;
        Ok(proxy)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if begun.elapsed() > Self::START_MAX {
                bail!("it accepts no connection after {:?}", Self::START_MAX);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// CPU time that its threads have taken, to the nanosecond, as the scheduler counts it.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut total = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            // A thread may end while we look.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            total += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(total))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is one to measure.
pub(super) fn has(kind: Kind, peers: &Path) -> bool {
    match kind {
        Kind::Approximate | Kind::Exact => true,
        Kind::Haproxy => {
            Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        }
        Kind::Peer(peer) => peers.join(peer.folder).join(peer.command[0]).exists(),
    }
}

impl Peer {
    fn command(&self, addr: SocketAddr, metrics: SocketAddr, engines: &[SocketAddr], peers: &Path) -> Command {
        let mut command = Command::new(peers.join(self.folder).join(self.command[0]));
        command
            .args(&self.command[1..])
            .arg("--worker-urls")
            .args(engines.iter().map(|engine| format!("http://{engine}")));
        command.args(["--host", "127.0.0.1", "--port", &addr.port().to_string()]);
        command.args(["--prometheus-host", "127.0.0.1", "--prometheus-port", &metrics.port().to_string()]);
        // It looks for a tokenizer on the network otherwise.
        command.env("HF_HUB_OFFLINE", "1");
        command
    }
}

fn ours(
    kind: Kind,
    addr: SocketAddr,
    admin: SocketAddr,
    engines: &[SocketAddr],
    folder: &Path,
) -> anyhow::Result<Command> {
    let endpoint = |(number, engine): (usize, &SocketAddr)| json!({"id": format!("engine-{number}"), "url": format!("http://{engine}"), "models": ["bench"]});
    let mut models = Vec::new();
    if kind == Kind::Exact {
        let model = folder.join("model");
        write_model(&model)?;
        models.push(json!({"name": "bench", "folder": model}));
    }
    let config = json!({
        "http": addr, "admin": admin, "policy": if kind == Kind::Exact { "weft" } else { "approximate" }, "models": models,
        "endpoints": engines.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    });
    let file = folder.join("router.toml");
    fs::write(&file, toml::to_string_pretty(&config)?).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find the weft executable")?);
    command.arg("router").arg("--config").arg(file).env_clear();
    Ok(command)
}

fn haproxy(addr: SocketAddr, engines: &[SocketAddr], folder: &Path) -> anyhow::Result<Command> {
    let servers: String =
        engines.iter().enumerate().map(|(number, engine)| format!("  server s{number} {engine}\n")).collect();
    let config = format!(
        "global\n  maxconn 4000\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  option http-keep-alive\n  http-reuse always\n\
         frontend f\n  bind {addr}\n  default_backend b\n\
         backend b\n  balance roundrobin\n{servers}"
    );
    let file: PathBuf = folder.join("haproxy.cfg");
    fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(file);
    Ok(command)
}

/// Two that nobody has. They may be taken before they are used, which the process that finds them so says.
fn free_addrs() -> anyhow::Result<[SocketAddr; 2]> {
    let listeners = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}
