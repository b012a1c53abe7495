//! One child process: started in a process group of its own with its output in a log file, stopped gently, then firmly.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Handle, Command};
use tokio::time::timeout;

/// Longest wait for a child that was asked to stop: a role's own drain (10 s at most) and a little more.
const STOP_MAX: Duration = Duration::from_secs(12);

/// What to start: `weft <role> --config <config>`.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Unique in the fleet, such as `node-2`.
    pub(crate) name: String,
    /// Subcommand.
    pub(crate) role: &'static str,
    /// Its configuration.
    pub(crate) config: PathBuf,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// HTTP address that tells whether it serves.
    pub(crate) probed: SocketAddr,
    /// Path that answers 200 there when it does.
    pub(crate) path: &'static str,
}

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    handle: Handle,
    pid: u32,
}

impl Process {
    /// Starts it with this very executable.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        let exe = std::env::current_exe().context("cannot find the weft executable")?;
        let log = open_log(&self.log)?;
        let handle = Command::new(exe)
            .arg(self.role)
            .arg("--config")
            .arg(&self.config)
            .args(["--parent", &std::process::id().to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log)
            // A Ctrl-C in the terminal reaches only us: we stop the children, in their order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let pid = handle.id().context("a child that was just started has a process id")?;
        Ok(Child { handle, pid })
    }

    /// Last lines of its log, for an error message.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Child {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when it has ended.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.handle.wait().await
    }

    /// SIGKILL; returns once it is gone.
    pub(crate) async fn kill(&mut self) -> std::io::Result<()> {
        self.handle.kill().await
    }

    /// SIGTERM, then SIGKILL for one that does not end in time.
    pub(crate) async fn stop(mut self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_MAX, self.handle.wait()).await.is_err() {
            let _ = self.handle.kill().await;
        }
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}
