//! A real cluster for tests: `weft up` as a child process on a loopback subnet of its own, its processes found by name,
//! killed and started again at will.
//!
//! One scenario a file under `tests/`; cargo runs one file after the other.

mod http;
mod process;
mod replay;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

pub use http::{get, post, post_as};
pub use process::{alive, kill, python_module, weft};
pub use replay::Replay;

/// Longest wait for anything: far beyond what it takes, since a test must end, not hurry.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `weft up`. Dropping it stops it as Ctrl-C would.
#[derive(Debug)]
pub struct Cluster {
    up: Child,
    state: TempDir,
    subnet: String,
    /// Started here, by name.
    strays: Vec<(String, Child)>,
    _turn: MutexGuard<'static, ()>,
}

/// Tests of one file run as threads of one process: two cores carry one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

impl Cluster {
    /// Starts one without a replay, and waits until it serves. Processes that die stay dead.
    ///
    /// # Errors
    /// It did not come up; what it printed is in the error.
    pub fn start(extra: &[&str]) -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let state = tempfile::tempdir()?;
        // Tests of several checkouts may run at once: each process takes a subnet of its own.
        let id = std::process::id();
        let subnet = format!("127.{}.{}", 1 + (id >> 8) % 250, id % 256);
        let output = fs::File::create(state.path().join("up.log"))?;
        let up = Command::new(weft())
            .args(["up", "--no-replay", "--restart", "never", "--subnet", &subnet, "--state"])
            .arg(state.path())
            .args(extra)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start weft up")?;
        let mut cluster = Self { up, state, subnet, strays: Vec::new(), _turn: turn };
        cluster.serving()?;
        Ok(cluster)
    }

    fn serving(&mut self) -> Result<()> {
        let said = self.state.path().join("up.log");
        await_that("weft up serves", || {
            let text = fs::read_to_string(&said)?;
            if let Some(status) = self.up.try_wait()? {
                bail!("weft up ended ({status}):\n{text}");
            }
            Ok(text.contains("Ctrl-C").then_some(()))
        })
    }

    /// Folder of configuration, logs and data.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// What all its processes have logged, one after the other.
    ///
    /// # Errors
    /// A log can't be read.
    pub fn logs(&self) -> Result<String> {
        let logs = fs::read_dir(self.state().join("logs"))?;
        logs.map(|log| Ok(fs::read_to_string(log?.path())?)).collect()
    }

    /// First three octets of its addresses.
    #[must_use]
    pub fn subnet(&self) -> &str {
        &self.subnet
    }

    /// Base URL of the router's API.
    #[must_use]
    pub fn router(&self) -> String {
        format!("http://{}.31:8080", self.subnet)
    }

    /// Base URL of the router's admin port.
    #[must_use]
    pub fn router_admin(&self) -> String {
        format!("http://{}.31:7421", self.subnet)
    }

    /// What a metadata member says of itself on its admin port; an error while it is down.
    ///
    /// # Errors
    /// No answer.
    pub fn member(&self, number: u64) -> Result<Value> {
        let (_, state) = get(&format!("http://{}.{}:7401/state", self.subnet, 10 + number))?;
        Ok(serde_json::from_str(&state)?)
    }

    /// Base URL of an engine's API.
    #[must_use]
    pub fn engine(&self, number: u8) -> String {
        format!("http://{}.{}:8000", self.subnet, 40 + number)
    }

    /// The unix socket of a node.
    #[must_use]
    pub fn socket(&self, node: u8) -> PathBuf {
        self.state().join(format!("data/node-{node}/socket/engine.sock"))
    }

    /// Process id of `weft up` itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.up.id()
    }

    /// Process ids of everything that `weft up` runs, by name.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn pids(&self) -> Result<Vec<(String, u32)>> {
        let registry: Value = serde_json::from_slice(&fs::read(self.state().join("up.json"))?)?;
        let entries = registry.as_object().context("the registry is an object")?;
        let running = entries.iter().filter_map(|(name, entry)| Some((name.clone(), entry["pid"].as_u64()?)));
        running.map(|(name, pid)| Ok((name, u32::try_from(pid)?))).collect()
    }

    /// Kills a process with SIGKILL, as the kernel or a power cut would.
    ///
    /// # Errors
    /// No such process.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::KILL)
    }

    /// Asks a process to end in good order, as a rolling upgrade would.
    ///
    /// # Errors
    /// No such process.
    pub fn terminate(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::TERM)
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let (_, pid) = self.pids()?.into_iter().find(|(running, _)| running == name).context("no such process")?;
        kill(pid, signal)
    }

    /// Kills a process with SIGKILL, whoever started it, and waits until it is gone.
    ///
    /// # Errors
    /// No such process.
    pub fn kill_and_wait(&mut self, name: &str) -> Result<()> {
        if let Some(at) = self.strays.iter().position(|(stray, _)| stray == name) {
            let (_, mut child) = self.strays.remove(at);
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
        let (_, pid) = self.pids()?.into_iter().find(|(running, _)| running == name).context("no such process")?;
        kill(pid, Signal::KILL)?;
        await_that("the process is gone", || Ok((!alive(pid)).then_some(())))
    }

    /// Folder of a member's data.
    #[must_use]
    pub fn member_data(&self, number: u64) -> PathBuf {
        self.state().join(format!("data/metadata-{number}"))
    }

    /// Configuration of a member.
    #[must_use]
    pub fn member_config(&self, number: u64) -> PathBuf {
        self.state().join(format!("config/metadata-{number}.toml"))
    }

    /// Fabric address of a member.
    #[must_use]
    pub fn member_addr(&self, number: u64) -> String {
        format!("{}.{}:7400", self.subnet, 10 + number)
    }

    /// Issues a certificate for a further member and writes its configuration, made of that of member 1.
    ///
    /// # Errors
    /// The certificate was not issued, or a file can't be written.
    pub fn prepare_member(&self, number: u64) -> Result<()> {
        let (certs, number_text) = (self.state().join("certs"), number.to_string());
        run(Command::new(weft())
            .args(["certs", "issue", "--role", "metadata", "--name", &number_text, "--dir"])
            .arg(certs))?;
        let first = fs::read_to_string(self.member_config(1))?;
        let addr = self.member_addr(number);
        let mine = |line: &str| match line {
            _ if line.starts_with("admin =") => format!("admin = \"{}.{}:7401\"", self.subnet, 10 + number),
            _ if line.starts_with("fabric =") => format!("fabric = \"{addr}\""),
            _ if line.starts_with("member =") => format!("member = {number}"),
            _ => line.replace("metadata-1", &format!("metadata-{number}")),
        };
        let lines: Vec<String> = first.lines().map(mine).chain([format!("{number} = \"{addr}\"")]).collect();
        Ok(fs::write(self.member_config(number), lines.join("\n"))?)
    }

    /// What a command that needs no running cluster answers with `--json`.
    ///
    /// # Errors
    /// The command failed: its exit code, and what it said.
    pub fn offline(&self, args: &[&str], config: &Path) -> Result<Value> {
        Ok(serde_json::from_str(&run(Command::new(weft()).args(args).args(["--json", "--config"]).arg(config))?)?)
    }

    /// Starts a killed process again with its own configuration.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self, name: &str) -> Result<()> {
        let role = name.split('-').next().context("a process has a name")?;
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.state().join(format!("logs/{name}.log")))?;
        let child = Command::new(weft())
            .arg(role)
            .arg("--config")
            .arg(self.state().join(format!("config/{name}.toml")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.strays.push((name.to_owned(), child));
        Ok(())
    }

    /// What `weft status --json` says; an error while no member answers.
    ///
    /// # Errors
    /// The command failed.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(weft()).args(["status", "--json", "--state"]).arg(self.state()).output()?;
        if !output.status.success() {
            bail!("weft status: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What an operator's command answers with `--json`.
    ///
    /// # Errors
    /// The command failed: its exit code, and what it said.
    pub fn operator(&self, args: &[&str]) -> Result<Value> {
        let said = run(Command::new(weft()).args(args).args(["--json", "--state"]).arg(self.state()))?;
        Ok(serde_json::from_str(&said)?)
    }

    /// Waits until the status is as wanted, and returns what `wanted` made of it.
    ///
    /// # Errors
    /// It never was; the last status is in the error.
    pub fn await_status<T>(&self, what: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        await_that(what, || match self.status() {
            Ok(status) => Ok(wanted(&status)),
            Err(_) => Ok(None),
        })
        .with_context(|| format!("last status: {:?}", self.status()))
    }

    /// Ends it as Ctrl-C in a terminal would, and returns its exit code.
    ///
    /// # Errors
    /// It did not end.
    pub fn interrupt(&mut self) -> Result<Option<i32>> {
        kill(self.up.id(), Signal::INT)?;
        await_that("weft up ends", || Ok(self.up.try_wait()?)).map(|status| status.code())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, stray) in &mut self.strays {
            let _ = stray.kill();
            let _ = stray.wait();
        }
        if matches!(self.up.try_wait(), Ok(None)) && self.interrupt().is_err() {
            let _ = self.up.kill();
        }
        if std::thread::panicking() {
            // The folder is about to go: keep what the processes said.
            let logs = fs::read_dir(self.state().join("logs")).into_iter().flatten().flatten();
            for log in logs {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(15).collect();
                eprintln!("--- {}", log.path().display());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// What a command prints; its exit code and what it said of the failure, if it fails.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("exit {:?}: {}", output.status.code(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks again and again until there is an answer: for conditions of other processes, which tell nobody.
///
/// # Errors
/// `probe` failed, or said nothing within [`PATIENCE`].
pub fn await_that<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("'{what}' did not come true within {PATIENCE:?}")
}
