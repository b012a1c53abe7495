//! What the router costs: chats through it beside the same chats through haproxy, which reads no body, and through other routers.
//!
//! One process is measured at a time, alone on a core; clients and engines are ours, on another. CPU time is what the scheduler
//! counted of the process, so that neither is in it. All take turns, and the median of the rounds counts.

mod chats;
mod cores;
mod engines;
mod load;
mod proxies;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use self::chats::{Chats, Shape};
use self::cores::Cores;
use self::engines::Engines;
use self::load::{Load, Seen};
use self::proxies::{Kind, Peer, Proxy, has};
use super::form::{Bar, Outcome};
use super::measure::Effort;
use super::{FormArgs, Measured, params};

/// Arguments of `weft bench router`.
#[derive(Debug, clap::Args)]
pub(crate) struct RouterArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Folder with virtual environments `vllm-router` and `sglang-router`, to measure them too (`make peers`).
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
}

const ENGINES: usize = 4;
/// Requests a second at which latency is measured: no queue anywhere.
const CALM_RATE: f64 = 200.0;
const EVENTS: usize = 256;

/// Measures beside peers.
pub(crate) async fn run(args: RouterArgs) -> anyhow::Result<()> {
    let RouterArgs { form, peers } = args;
    let effort = Effort { quick: form.quick };
    let measured = super::on_a_thread(move || measure_with(effort, peers)).await?;
    let outcome = Outcome::new("router", measured);
    if let Some(path) = &form.plot {
        super::plot::bars(&outcome, path)?;
    }
    super::print(&outcome, form.json)
}

/// Measures beside haproxy, where there is one.
pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    measure_with(effort, None)
}

fn measure_with(effort: Effort, peers: Option<PathBuf>) -> anyhow::Result<Measured> {
    let bench = Bench::new(effort, peers.unwrap_or_default())?;
    let kinds = [Kind::Approximate, Kind::Exact, Kind::Haproxy].into_iter().chain(Peer::ALL.map(Kind::Peer));
    let kinds: Vec<Kind> = kinds.filter(|kind| has(*kind, &bench.peers)).collect();
    let mut figures = vec![Figures::default(); kinds.len()];
    let mut direct = Vec::new();
    for _ in 0..if effort.quick { 1 } else { 3 } {
        direct
            .push(bench.calm.run(bench.cores, bench.engines.addrs[0], || Ok(Duration::ZERO))?.latencies.quantile(0.5));
        for (kind, figures) in kinds.iter().zip(&mut figures) {
            bench.round(*kind, figures)?;
        }
    }
    let said = json!({
        "engines": ENGINES, "body_bytes": bench.busy.chats.mean_bytes(), "line_bytes": bench.events.chats.mean_bytes(),
        "long_body_bytes": bench.long.chats.mean_bytes(), "events": EVENTS, "haproxy": kinds.contains(&Kind::Haproxy),
    });
    Ok(Measured { params: params(said), bars: bars(&kinds, figures, median(&direct)) })
}

/// What is sent to each, and by what.
struct Bench {
    cores: Cores,
    engines: Engines,
    folder: tempfile::TempDir,
    peers: PathBuf,
    busy: Load,
    calm: Load,
    events: Load,
    long: Load,
}

impl Bench {
    fn new(effort: Effort, peers: PathBuf) -> anyhow::Result<Self> {
        let cores = Cores::new();
        let (warm, window) = if effort.quick { (0.3, 1.0) } else { (1.0, 3.0) };
        let [warm, window] = [warm, window].map(Duration::from_secs_f64);
        let load =
            |shape, connections| Load { chats: Arc::new(Chats::new(shape)), connections, rate: None, warm, window };
        let busy = load(Shape::CHAT, 32);
        Ok(Self {
            cores,
            engines: Engines::start(cores, ENGINES)?,
            folder: tempfile::tempdir().context("cannot make a folder for configurations")?,
            peers,
            calm: Load { rate: Some(CALM_RATE), ..busy.clone() },
            // Its streams are spread over time by their first second.
            events: Load {
                warm: warm.max(Duration::from_secs(1)),
                ..load(Shape { events: Some(EVENTS), ..Shape::LINE }, 64)
            },
            long: Load { warm: Duration::from_secs(2), ..load(Shape::LONG, 1) },
            busy,
        })
    }

    fn round(&self, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
        let proxy = Proxy::start(kind, &self.engines.addrs, self.folder.path(), &self.peers, self.cores)?;
        let run = |load: &Load| {
            load.run(self.cores, proxy.addr, || proxy.cpu()).with_context(|| format!("{kind:?} failed under load"))
        };
        let a_request = |seen: &Seen| seen.cpu.as_secs_f64() * 1e6 / seen.requests.max(1) as f64;
        let busy = run(&self.busy)?;
        figures.requests.push(a_request(&busy));
        if kind == Kind::Exact {
            figures.long.push(a_request(&run(&self.long)?) / 1e3);
            return Ok(());
        }
        let events = run(&self.events)?;
        figures.events.push(events.cpu.as_secs_f64() * 1e6 / events.events.max(1) as f64);
        figures.calm.push(run(&self.calm)?.latencies.quantile(0.5));
        Ok(())
    }
}

/// Of one kind, round by round.
#[derive(Clone, Default)]
struct Figures {
    /// Microseconds of CPU a request.
    requests: Vec<f64>,
    /// Microseconds of CPU an event.
    events: Vec<f64>,
    /// Seconds from request to answer, the median.
    calm: Vec<f64>,
    /// Milliseconds of CPU a long request.
    long: Vec<f64>,
}

fn bars(kinds: &[Kind], figures: Vec<Figures>, direct: f64) -> Vec<Bar> {
    let of = |kind: Kind| kinds.iter().position(|other| *other == kind).map(|at| &figures[at]);
    let (Some(ours), Some(exact)) = (of(Kind::Approximate), of(Kind::Exact)) else { return Vec::new() };
    let added = |figures: &Figures| (median(&figures.calm) - direct) * 1e6;
    let mut request = Bar::value("request_cpu", median(&ours.requests), "us");
    let mut event = Bar::value("event_cpu", median(&ours.events), "us");
    let mut latency = Bar::value("added_p50", added(ours), "us");
    let mut tokens = Bar::value("exact_request_cpu", median(&exact.requests), "us");
    if let Some(haproxy) = of(Kind::Haproxy) {
        request = request.against(median(&haproxy.requests)).at_most(1.6);
        event = event.against(median(&haproxy.events)).at_most(2.0);
        latency = latency.against(added(haproxy)).at_most(1.3);
        tokens = tokens.against(median(&haproxy.requests));
    }
    let long = Bar::value("exact_long_prompt_cpu", median(&exact.long), "ms").at_most(20.0);
    let mut bars = vec![request, event, latency, tokens, long];
    for peer in Peer::ALL {
        let Some(theirs) = of(Kind::Peer(peer)) else { continue };
        bars.push(
            Bar::value(peer.bar, median(&ours.requests), "us").against(median(&theirs.requests)).at_most(peer.goal),
        );
    }
    bars
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
