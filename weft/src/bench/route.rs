//! Routing rules in virtual time: the router's own policy code beside other routers' rules and a bound that nobody can reach.
//!
//! `weft bench route` runs the gates: each compares the policy with the others on one workload and fleet. With `--trace` it runs
//! one workload on one fleet instead, as its options say, and prints what each rule made of it.
//!
//! Engines are modelled (see `weft_route_sim`), so that ratios are what to trust. Nothing here depends on the machine.

mod gates;
mod picture;
mod runs;
mod workloads;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;
use weft_route_sim::{Engine, Host, NAMES, Run, Setup, Tokens, Workload};

use super::form::{Bar, Outcome};
use super::{FormArgs, Measured, params, plot};
use crate::table::Table;
use runs::Runs;

/// Arguments of `weft bench route`.
#[derive(Debug, clap::Args)]
pub(crate) struct RouteArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Folder with mooncake_conversation, toolagent_like and cc_dev (.jsonl.zst) for the gates, instead of generated workloads.
    #[arg(long, value_name = "FOLDER", conflicts_with = "trace")]
    traces: Option<PathBuf>,
    /// Instead of the gates: this trace, or `builtin`, on the fleet described by the options below.
    #[arg(long, value_name = "FILE.jsonl")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// One workload on one fleet.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --trace")]
struct FleetArgs {
    /// Tokens in a block of the trace.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    trace_block_tokens: u32,
    /// Divides arrival and think times.
    #[arg(long, default_value_t = 2.0)]
    speed: f64,
    /// Engines.
    #[arg(long, default_value_t = 8)]
    replicas: usize,
    /// Prefill of an engine.
    #[arg(long, default_value_t = Engine::default().prefill_tokens_per_s)]
    prefill_tokens_per_s: f64,
    /// Device memory of an engine, in tokens.
    #[arg(long, default_value_t = Engine::default().device_tokens)]
    device_tokens: u64,
    /// KV bytes of a token.
    #[arg(long, default_value_t = Engine::default().kv_bytes)]
    kv_bytes: f64,
    /// Host memory of a node, in tokens; 0 for none.
    #[arg(long, default_value_t = 0)]
    host_tokens: u64,
    /// What a device is filled with from it, GB/s.
    #[arg(long, default_value_t = 20.0)]
    host_gbps: f64,
    /// What nodes fetch from each other with, GB/s; 0 if they don't.
    #[arg(long, default_value_t = 0.0)]
    peer_gbps: f64,
    /// Age of what the index says, in milliseconds.
    #[arg(long, default_value_t = 0.0)]
    index_lag_ms: f64,
    /// Rules to compare.
    #[arg(long, value_delimiter = ',', default_values = NAMES)]
    policy: Vec<String>,
    /// Runs of each, with other dice.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

/// Runs what was asked for.
pub(crate) async fn run(args: RouteArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || match &args.trace {
        None => gates(&args),
        Some(trace) => one(&args, trace),
    })
    .await
    .context("the bench panicked")?
}

fn gates(args: &RouteArgs) -> anyhow::Result<()> {
    let workloads = workloads::Three::load(args.traces.as_deref())?;
    let measured = gates::measure(&workloads, if args.form.quick { 1 } else { 3 })?;
    let outcome = Outcome::new("route", measured);
    if let Some(path) = &args.form.plot {
        plot::bars(&outcome, path)?;
    }
    super::print(&outcome, args.form.json)
}

fn one(args: &RouteArgs, trace: &std::path::Path) -> anyhow::Result<()> {
    let fleet = &args.fleet;
    ensure!(
        (1..=Setup::REPLICAS_MAX).contains(&fleet.replicas),
        "--replicas {}: expected 1 to {}",
        fleet.replicas,
        Setup::REPLICAS_MAX
    );
    ensure!(fleet.speed > 0.0, "--speed {}: expected a number over 0", fleet.speed);
    let positive = [fleet.prefill_tokens_per_s, fleet.kv_bytes, fleet.host_gbps];
    ensure!(positive.iter().all(|rate| *rate > 0.0), "rates and sizes are {positive:?}: expected numbers over 0");
    let workload = workloads::load(trace, fleet.trace_block_tokens, fleet.speed, fleet.device_tokens)?;
    let setup = fleet.setup();
    let seeds = if args.form.quick { 1 } else { fleet.seeds };
    let mut all = Vec::new();
    for name in &fleet.policy {
        all.push((name.as_str(), Runs::of(name, &setup, &workload, seeds)?));
    }
    if let Some(path) = &args.form.plot {
        picture::curves(&all, fleet.prefill_tokens_per_s, path)?;
    }
    match args.form.json {
        true => println!("{}", serde_json::to_string(&outcome(&all, &setup, &workload))?),
        false => print!("{}", table(&all, &workload)),
    }
    Ok(())
}

impl FleetArgs {
    fn setup(&self) -> Setup {
        Setup {
            replicas: self.replicas,
            engine: Engine {
                prefill_tokens_per_s: self.prefill_tokens_per_s,
                device_tokens: self.device_tokens,
                kv_bytes: self.kv_bytes,
                ..Engine::default()
            },
            host: (self.host_tokens > 0)
                .then_some(Host { tokens: self.host_tokens, bytes_per_s: self.host_gbps * 1e9 }),
            peer_bytes_per_s: self.peer_gbps * 1e9,
            index_lag_s: self.index_lag_ms / 1e3,
            ..Setup::default()
        }
    }
}

fn table(all: &[(&str, Runs)], workload: &Workload) -> String {
    let heads = ["rule", "hit", "device", "host", "peer", "mean", "p50", "p90", "p99", "busiest", "busy", "fetched"];
    let mut table = Table::new(&heads);
    for (name, runs) in all {
        let share = |of: fn(&Tokens) -> u64| {
            format!("{:.1} %", 100.0 * runs.mean(|run| of(&run.tokens) as f64 / run.tokens.input as f64))
        };
        let seconds = |of: &dyn Fn(&Run) -> f64| format!("{:.3} s", runs.mean(of));
        table.row([
            (*name).to_owned(),
            format!("{:.1} %", 100.0 * runs.mean(Run::hit_rate)),
            share(|tokens| tokens.device),
            share(|tokens| tokens.host),
            share(|tokens| tokens.peer),
            seconds(&Run::mean_s),
            seconds(&|run| run.quantile_s(0.5)),
            seconds(&|run| run.quantile_s(0.9)),
            seconds(&|run| run.quantile_s(0.99)),
            format!("{:.2}", runs.mean(Run::imbalance)),
            format!("{:.0} %", 100.0 * runs.mean(Run::utilisation)),
            format!("{:.1} GB", runs.mean(|run| run.fetched_bytes / 1e9)),
        ]);
    }
    let (requests, bound) = (workload.requests.len(), 100.0 * workload.bound());
    format!(
        "{requests} requests, engines simulated; an infinite cache would spare {bound:.1} % of the prompt tokens\n\n{table}"
    )
}

fn outcome(all: &[(&str, Runs)], setup: &Setup, workload: &Workload) -> Outcome {
    let rules: serde_json::Map<_, _> = all
        .iter()
        .map(|(name, runs)| {
            let figures = json!({
                "hit_rate": runs.mean(Run::hit_rate),
                "ttft_s": {
                    "mean": runs.mean(Run::mean_s), "p50": runs.mean(|run| run.quantile_s(0.5)),
                    "p90": runs.mean(|run| run.quantile_s(0.9)), "p99": runs.mean(|run| run.quantile_s(0.99)),
                },
                "busiest_to_mean": runs.mean(Run::imbalance),
                "utilisation": runs.mean(Run::utilisation),
                "fetched_bytes": runs.mean(|run| run.fetched_bytes),
            });
            ((*name).to_owned(), figures)
        })
        .collect();
    let params = params(json!({
        "requests": workload.requests.len(), "bound": workload.bound(), "replicas": setup.replicas, "rules": rules,
    }));
    let named = |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, runs)| runs);
    let mut bars = Vec::new();
    if let Some(ours) = named("weft") {
        let mean = Bar::value("mean_ttft", ours.mean(Run::mean_s), "s");
        bars.push(match named("oracle-pool") {
            Some(bound) => mean.against(bound.mean(Run::mean_s)),
            None => mean,
        });
    }
    Outcome::new("route", Measured { params, bars })
}
