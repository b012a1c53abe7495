//! A workload that goes through the router while something is broken under it: `weft bench trace` as a child process.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{Cluster, await_that, get, weft};

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    bench: Child,
    router: String,
}

impl Replay {
    /// Starts one: `requests` over `span` (such as `20s`), all at a tenth of their real length.
    ///
    /// # Errors
    /// The command can't be started.
    pub fn start(cluster: &Cluster, requests: usize, span: &str) -> Result<Self> {
        let bench = Command::new(weft())
            .args(["bench", "trace", "--json", "--length-scale", "0.1", "--span", span])
            .args(["--url", &cluster.router(), "--requests", &requests.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start weft bench trace")?;
        Ok(Self { bench, router: cluster.router_admin() })
    }

    /// Waits until the router has answered so many requests of it.
    ///
    /// # Errors
    /// It never did.
    pub fn answered(&self, requests: f64) -> Result<()> {
        await_that("the replay is under way", || {
            let (_, text) = get(&format!("{}/metrics", self.router))?;
            let counts = text.lines().filter(|line| line.starts_with("weft_router_requests_total{"));
            let answered: f64 = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
            Ok((answered >= requests).then_some(()))
        })
    }

    /// Waits for its end, and returns its bars by name.
    ///
    /// # Errors
    /// The replay itself failed.
    pub fn finish(self) -> Result<Value> {
        let output = self.bench.wait_with_output()?;
        if !output.status.success() && output.stdout.is_empty() {
            bail!("weft bench trace: {}", String::from_utf8_lossy(&output.stderr));
        }
        let outcome: Value = serde_json::from_slice(&output.stdout).context("the report is not JSON")?;
        let bars = outcome["bars"].as_array().context("a report has bars")?;
        let mut values: Value =
            bars.iter().map(|bar| (bar["id"].as_str().unwrap_or_default(), bar["value"].clone())).collect();
        values["reasons"] = outcome["params"]["failures"].clone();
        Ok(values)
    }
}
