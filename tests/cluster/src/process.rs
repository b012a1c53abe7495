//! What is under test, built, and signals to processes.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The `weft` executable of this build; built now if it is older than its sources.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn weft() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("weft")).clone()
}

/// The library that is Python's `weft_kv._native`; built now if it is older than its sources.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn python_module() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("libweft_kv_native.so")).clone()
}

/// Both are built together, as the Makefile does: one without the other, with fewer features, would have much of what they
/// depend on built again.
fn build(artifact: &str) -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "weft", "-p", "weft-kv-native"]).status();
    assert!(built.is_ok_and(|status| status.success()), "{artifact} does not build");
    // target/<profile>/deps/<this test> → target/<profile>/<artifact>
    let test = std::env::current_exe().expect("a test knows its executable");
    test.parent().and_then(|deps| deps.parent()).expect("tests lie two folders deep").join(artifact)
}

/// Sends a signal.
///
/// # Errors
/// No such process.
pub fn kill(pid: u32, signal: Signal) -> Result<()> {
    kill_process(raw(pid)?, signal).with_context(|| format!("cannot signal process {pid}"))
}

/// Whether the process exists and has not ended (a zombie has).
#[must_use]
pub fn alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    raw(pid).is_ok_and(|pid| test_kill_process(pid).is_ok()) && !zombie
}

fn raw(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}
