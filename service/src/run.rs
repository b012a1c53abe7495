//! From arguments to an exit code: the frame around every long-running role.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::config::{self, Loaded};
use crate::exit::{self, Stopped};
use crate::telemetry::Telemetry;

/// Arguments every role takes.
#[derive(Debug, Clone, clap::Args)]
pub struct RoleArgs {
    /// Configuration file (TOML); then WEFT_* environment, then --set.
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// One setting over file and environment, such as `--set host_memory=64GiB` or `--set identity.cert=a.pem`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Longest that stopping waits for what is under way: requests, streams, transfers. What is left then is cut off.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// End when this process, our parent, does (`weft up` leaves nothing behind, however it ends).
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

/// Loads the configuration, starts telemetry, and runs `main` to its end. `main` binds, serves, awaits
/// [`crate::shutdown::signal`] and drains; its error is logged here, once.
pub async fn run<C, F, R>(role: &'static str, args: &RoleArgs, main: F) -> ExitCode
where
    C: DeserializeOwned,
    F: FnOnce(C, Telemetry) -> R,
    R: Future<Output = Result<(), Stopped>>,
{
    let Loaded { config, log } = match config::load(args.config.as_deref(), &args.sets) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("weft {role}: {}", chain(&error));
            return ExitCode::from(exit::CONFIG);
        }
    };
    let telemetry = match Telemetry::init(&log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("weft {role}: {}", chain(&error));
            return ExitCode::from(exit::CONFIG);
        }
    };
    abort_on_panic(role);
    if let Some(parent) = args.parent
        && let Err(error) = end_with(parent)
    {
        tracing::error!("cannot follow the parent process {parent}: {error}");
        return ExitCode::from(exit::UNAVAILABLE);
    }
    match main(config, telemetry).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{role} stopped: {}", chain(&error));
            ExitCode::from(error.code)
        }
    }
}

/// Asks the kernel for a SIGTERM at the parent's death, and makes sure that it has not died already.
fn end_with(parent: i32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if now == parent { Ok(()) } else { Err(std::io::Error::other("it is gone")) }
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // TOML's errors end in a line break.
        let said = said.trim_end();
        if !text.contains(said) {
            text.push_str(": ");
            text.push_str(said);
        }
        cause = error.source();
    }
    text
}

/// A panic in one task of a daemon leaves the others serving from a state nobody has thought about, so the process ends
/// and its supervisor starts a clean one.
fn abort_on_panic(role: &'static str) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!(
            "weft {role} {version} met a bug and stops, so that it does not serve from a broken state.\n\
             Nothing acknowledged is lost: restart it. Please report the lines above with the version.",
            version = env!("CARGO_PKG_VERSION"),
        );
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_on_one_line() {
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
