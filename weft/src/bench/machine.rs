//! Where a bench ran.

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;

use serde::Serialize;

/// The machine, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
}

impl Machine {
    /// This one; what the kernel does not tell is "unknown".
    pub(crate) fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let kib: Option<f64> = field("/proc/meminfo", "MemTotal").and_then(|text| {
            let digits = text.trim_end_matches("kB").trim();
            digits.parse().ok()
        });
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            memory: kib.map_or_else(unknown, |kib| format!("{:.1} GiB", kib / f64::from(1 << 20))),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().into()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {}, Linux {}", self.cpu, self.cores, self.memory, self.kernel)
    }
}

/// Commit of the checkout in the working directory, with a `+` for uncommitted changes; empty outside of one.
pub(crate) fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]).output();
    git.ok()
        .filter(|git| git.status.success())
        .map_or_else(String::new, |git| String::from_utf8_lossy(&git.stdout).trim().to_owned())
}

/// Value of `name` in a file of `name : value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}
