//! Keeps the fleet's processes running, and stops them in the order that loses least.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::child::Process;
use crate::http;

/// Longest wait for a process to be ready: a debug build on a busy machine takes seconds to elect a leader.
const READY_MAX: Duration = Duration::from_secs(60);
/// How often readiness is asked for.
const READY_EVERY: Duration = Duration::from_millis(50);
/// Log lines shown of a process that did not come up.
const TAIL_LINES: usize = 12;

/// What happens when a process ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    /// It is started again a second later.
    Always,
    /// It stays down (for tests that kill).
    Never,
}

/// A line of the registry file: what runs, as whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Subcommand.
    pub(crate) role: String,
    /// Process id now; `None` while it is down.
    pub(crate) pid: Option<u32>,
    /// Its configuration.
    pub(crate) config: PathBuf,
    /// Its log.
    pub(crate) log: PathBuf,
}

/// Running processes by name. The registry is mirrored in a file for `weft status` and for whoever wants to kill one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    restart: Restart,
    running: Vec<Running>,
    registry: Arc<Registry>,
}

#[derive(Debug)]
struct Running {
    name: String,
    role: &'static str,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Registry {
    file: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Supervisor {
    /// An empty fleet whose registry goes to `file`.
    pub(crate) fn new(file: PathBuf, restart: Restart) -> Self {
        let registry = Arc::new(Registry { file, entries: Mutex::default() });
        Self { restart, running: Vec::new(), registry }
    }

    /// Starts processes, and waits until every one is ready. One that ends before it ever was has not come up: what it
    /// said is the error, and starting it again would only repeat it.
    pub(crate) async fn start(&mut self, processes: &[Process]) -> anyhow::Result<()> {
        for process in processes {
            free(process).await?;
            let stop = CancellationToken::new();
            let child = process.start()?;
            self.registry.put(process, Some(child.pid()))?;
            let keeper = keep(process.clone(), child, stop.clone(), self.restart, Arc::clone(&self.registry));
            let keeper = tokio::spawn(keeper);
            self.running.push(Running { name: process.name.clone(), role: process.role, stop, keeper });
        }
        for process in processes {
            self.ready(process).await?;
        }
        Ok(())
    }

    async fn ready(&self, process: &Process) -> anyhow::Result<()> {
        let url = format!("http://{}{}", process.probed, process.path);
        let mut last = String::new();
        let polled = tokio::time::timeout(READY_MAX, async {
            loop {
                if self.registry.is_down(&process.name) {
                    bail!("it ended");
                }
                match http::get(&url).await {
                    Ok((200, _)) => return Ok(()),
                    Ok((status, body)) => last = format!("{status} {}", body.trim()),
                    Err(error) => last = error.to_string(),
                }
                // A process says nothing when it becomes ready; asking is the only way.
                sleep(READY_EVERY).await;
            }
        });
        let failed = match polled.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not ready within {READY_MAX:?}: {last}"),
        };
        bail!(
            "{} did not come up ({failed}); its log {} ends with\n{}",
            process.name,
            process.log.display(),
            process.log_tail(TAIL_LINES)
        )
    }

    /// Stops these processes, all at once.
    pub(crate) async fn stop(&mut self, processes: &[Process]) {
        self.end(|running| processes.iter().any(|process| process.name == running.name)).await;
    }

    /// Stops everything, a role at a time, last started first: the router before the engines, metadata last. Those of one
    /// role go together, so that none is left to look for the others.
    pub(crate) async fn stop_all(&mut self) {
        while let Some(role) = self.running.last().map(|last| last.role) {
            self.end(|running| running.role == role).await;
        }
        let _ = std::fs::remove_file(&self.registry.file);
    }

    async fn end(&mut self, which: impl Fn(&Running) -> bool) {
        let ending: Vec<_> = self.running.extract_if(.., |running| which(running)).collect();
        ending.iter().for_each(|running| running.stop.cancel());
        for Running { name, keeper, .. } in ending {
            let _ = keeper.await;
            self.registry.remove(&name);
        }
    }
}

/// Fails if somebody else listens where the process will: it could not bind, and the other one would be taken for it.
async fn free(process: &Process) -> anyhow::Result<()> {
    match TcpListener::bind(process.probed).await {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "{} cannot have {}: {error}; is another weft up? Stop it, or choose other addresses with --subnet 127.x.y",
            process.name,
            process.probed
        ),
    }
}

/// Waits for the process to end and starts it again, until told to stop.
async fn keep(
    process: Process,
    first: super::child::Child,
    stop: CancellationToken,
    restart: Restart,
    registry: Arc<Registry>,
) {
    /// Long enough to read the line, short enough to be back within a liveness lease or two.
    const RESTART_AFTER: Duration = Duration::from_secs(1);
    let mut child = first;
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return child.stop().await,
            ended = child.wait() => ended,
        };
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        registry.update(&process.name, None);
        if restart == Restart::Never {
            eprintln!("{} ended: {how}", process.name);
            return stop.cancelled().await;
        }
        eprintln!("{} ended: {how}; starting it again (log: {})", process.name, process.log.display());
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(RESTART_AFTER) => {}
        }
        match process.start() {
            Ok(started) => child = started,
            Err(error) => {
                eprintln!("{error:#}");
                return stop.cancelled().await;
            }
        }
        registry.update(&process.name, Some(child.pid()));
    }
}

impl Registry {
    fn put(&self, process: &Process, pid: Option<u32>) -> anyhow::Result<()> {
        let entry =
            Entry { role: process.role.to_owned(), pid, config: process.config.clone(), log: process.log.clone() };
        self.entries.lock().insert(process.name.clone(), entry);
        self.write().with_context(|| format!("cannot write {}", self.file.display()))
    }

    fn update(&self, name: &str, pid: Option<u32>) {
        if let Some(entry) = self.entries.lock().get_mut(name) {
            entry.pid = pid;
        }
        self.write_or_say();
    }

    fn remove(&self, name: &str) {
        self.entries.lock().remove(name);
        self.write_or_say();
    }

    fn is_down(&self, name: &str) -> bool {
        self.entries.lock().get(name).is_none_or(|entry| entry.pid.is_none())
    }

    fn write_or_say(&self) {
        if let Err(error) = self.write() {
            eprintln!("cannot write {}: {error}", self.file.display());
        }
    }

    /// Whole or not at all, since others read it at any time.
    fn write(&self) -> std::io::Result<()> {
        let entries = self.entries.lock();
        let partial = self.file.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec_pretty(&*entries)?)?;
        std::fs::rename(&partial, &self.file)
    }
}
