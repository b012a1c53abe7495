//! Benches, all in one form: `weft bench <name> [--quick] [--json] [--plot file.svg]`.
//!
//! Each bench measures its limit, a peer or the hardware, in the same run: see [`form`]. `--quick` ends within 40 seconds.

mod arena;
mod disk;
mod divergence;
mod engine;
mod failover;
mod form;
mod gpu;
mod hash;
mod holder;
mod index;
mod latencies;
mod limits;
mod machine;
mod measure;
mod members;
mod placement;
pub(crate) mod plot;
mod route;
mod router;
pub(crate) mod trace;
mod transfer;
mod warm_start;
mod workload;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::Context;
use serde_json::{Map, Value};

use form::{Bar, Outcome};
use machine::Machine;
use measure::Effort;

/// Arguments of `weft bench`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Replay a workload against a running router, and report what its clients saw.
    Trace(Box<trace::args::TraceArgs>),
    /// Block hashes of prompts, against BLAKE3 of the same bytes.
    Hash(FormArgs),
    /// The prefix index, against a plain hash map and memory latency, or the indexes of other routers.
    Index(index::IndexArgs),
    /// Blocks from one arena into another over QUIC, against bare quinn; latency of a prefix; delay and loss.
    Transfer(FormArgs),
    /// Storing and loading through a node daemon, against copying in memory.
    Arena(FormArgs),
    /// The disk tier through its real code, against fio or plain direct I/O; and a start on 100 GB of segments.
    Disk(disk::DiskArgs),
    /// Reports and lookups through a group of three metadata members, against the disk alone.
    Placement(FormArgs),
    /// The leader of three metadata members is killed over and over: time to the next write, and what was lost.
    Failover(FormArgs),
    /// A metadata member is killed and started: time to its first correct lookup, against reading its files once.
    WarmStart(FormArgs),
    /// A node's reports are lost on the way: time and bytes until what is listed of it is right, against telling all anew.
    Divergence(FormArgs),
    /// Routing rules in virtual time: the router's own policy beside other routers' and a bound.
    Route(Box<route::RouteArgs>),
    /// What the router costs, against haproxy and other routers.
    Router(router::RouterArgs),
    /// Blocks between a GPU and a pinned arena, by size of their pieces, against plain copies. Needs a GPU.
    Gpu(gpu::GpuArgs),
    /// Every bench that needs no running cluster and no GPU.
    All(AllArgs),
    /// Write a trace with the statistics of real ones.
    Workload(workload::WorkloadArgs),
}

/// What every bench takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FormArgs {
    /// End within 40 seconds, with more noise.
    #[arg(long)]
    pub(crate) quick: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw a picture.
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct AllArgs {
    /// End each bench within 40 seconds, with more noise.
    #[arg(long)]
    quick: bool,
    /// Write the results as Markdown.
    #[arg(long, value_name = "FILE.md")]
    write: Option<PathBuf>,
}

/// What a bench gives back; the rest of the form is the same for all.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) params: Map<String, Value>,
    pub(crate) bars: Vec<Bar>,
}

type Measuring = Pin<Box<dyn Future<Output = anyhow::Result<Measured>> + Send>>;

/// A bench that needs nothing but this machine.
struct Bench {
    name: &'static str,
    run: fn(Effort) -> Measuring,
}

const HASH: Bench = Bench { name: "hash", run: |effort| on_a_thread(move || hash::measure(effort)) };
const INDEX: Bench = Bench { name: "index", run: |effort| on_a_thread(move || index::measure(effort)) };
const TRANSFER: Bench = Bench { name: "transfer", run: |effort| on_a_thread(move || transfer::measure(effort)) };
const ARENA: Bench = Bench { name: "arena", run: |effort| on_a_thread(move || arena::measure(effort)) };
const DISK: Bench = Bench { name: "disk", run: |effort| on_a_thread(move || disk::measure(effort)) };
const PLACEMENT: Bench = Bench { name: "placement", run: |effort| Box::pin(placement::measure(effort)) };
const FAILOVER: Bench = Bench { name: "failover", run: |effort| Box::pin(failover::measure(effort)) };
const WARM_START: Bench = Bench { name: "warm-start", run: |effort| Box::pin(warm_start::measure(effort)) };
const DIVERGENCE: Bench = Bench { name: "divergence", run: |effort| Box::pin(divergence::measure(effort)) };
const ROUTER: Bench = Bench { name: "router", run: |effort| on_a_thread(move || router::measure(effort)) };

/// In the order of the report.
const ALL: &[Bench] = &[HASH, INDEX, TRANSFER, ARENA, DISK, PLACEMENT, FAILOVER, WARM_START, DIVERGENCE, ROUTER];

/// Runs what was asked for.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.bench {
        Command::Trace(args) => trace::args::run(*args).await,
        Command::Hash(form) => HASH.report(&form).await,
        Command::Index(args) => index::run(args).await,
        Command::Transfer(form) => TRANSFER.report(&form).await,
        Command::Arena(form) => ARENA.report(&form).await,
        Command::Disk(args) => disk::run(args).await,
        Command::Placement(form) => PLACEMENT.report(&form).await,
        Command::Failover(form) => FAILOVER.report(&form).await,
        Command::WarmStart(form) => WARM_START.report(&form).await,
        Command::Divergence(form) => DIVERGENCE.report(&form).await,
        Command::Route(args) => route::run(*args).await,
        Command::Router(args) => router::run(args).await,
        Command::Gpu(args) => gpu::run(args).await,
        Command::All(args) => all(&args).await,
        Command::Workload(args) => workload::run(&args),
    }
}

impl Bench {
    async fn report(&self, form: &FormArgs) -> anyhow::Result<()> {
        let outcome = self.outcome(form.quick).await?;
        if let Some(path) = &form.plot {
            plot::bars(&outcome, path)?;
        }
        print(&outcome, form.json)
    }

    async fn outcome(&self, quick: bool) -> anyhow::Result<Outcome> {
        let measured = (self.run)(Effort { quick }).await.with_context(|| format!("bench {} failed", self.name))?;
        Ok(Outcome::new(self.name, measured))
    }
}

impl Outcome {
    /// Measured here and now.
    pub(crate) fn new(name: &str, measured: Measured) -> Self {
        let Measured { params, bars } = measured;
        Self { name: name.to_owned(), machine: Machine::here(), commit: machine::commit(), params, bars }
    }
}

/// Prints an outcome.
pub(crate) fn print(outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(outcome)?);
    } else {
        print!("{}", outcome.table());
    }
    Ok(())
}

async fn all(args: &AllArgs) -> anyhow::Result<()> {
    let mut sections = Vec::new();
    for bench in ALL {
        let outcome = bench.outcome(args.quick).await?;
        print(&outcome, false)?;
        sections.push(outcome);
    }
    match &args.write {
        Some(path) => write(path, &sections),
        None => Ok(()),
    }
}

fn write(path: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let Some(first) = outcomes.first() else { return Ok(()) };
    let mut text = format!(
        "# Benchmarks\n\nWritten by `weft bench all --write docs/benchmarks.md` (`make bench`) on {}, at commit `{}`. \
         `limit` is what a peer or the hardware reached in the same run; `ratio` is value against limit, and is what \
         can be compared between machines.\n",
        first.machine, first.commit
    );
    for outcome in outcomes {
        text.push('\n');
        text.push_str(&outcome.markdown());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs a bench that computes and never waits.
fn on_a_thread(measure: impl FnOnce() -> anyhow::Result<Measured> + Send + 'static) -> Measuring {
    Box::pin(async { tokio::task::spawn_blocking(measure).await.context("the bench panicked")? })
}

/// The parameters of a bench, from a JSON object.
fn params(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(params) => params,
        _ => Map::new(),
    }
}
