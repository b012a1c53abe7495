//! What the policy must do better than others, and how near it must come to the pooled oracle. `docs/routing.md` explains
//! each gate.

use serde_json::json;
use weft_route_sim::{Engine, Host, Run, Setup, Workload};

use super::runs::Runs;
use super::workloads::Three;
use crate::bench::form::Bar;
use crate::bench::{Measured, params};

/// Rules as they are shipped, and the best that knows no prefix.
const SHIPPED: [&str; 5] = ["sglang", "gie", "llmd", "dynamo", "least-tokens"];
/// Over this share of busy time, seconds measure the backlog and not the rule.
const UTILISATION_MAX: f64 = 0.95;

/// One workload on one fleet.
struct Cell {
    setup: Setup,
    workload: Workload,
    seeds: u64,
}

impl Cell {
    fn runs(&self, name: &str) -> anyhow::Result<Runs> {
        Runs::of(name, &self.setup, &self.workload, self.seeds)
    }

    fn mean_s(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.runs(name)?.mean(Run::mean_s))
    }

    fn with(&self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.setup;
        change(&mut setup);
        Self { setup, workload: self.workload.clone(), seeds: self.seeds }
    }

    /// The least mean and the least p90 of the rules as shipped.
    fn best_shipped(&self) -> anyhow::Result<(f64, f64)> {
        let mut best = (f64::INFINITY, f64::INFINITY);
        for name in SHIPPED {
            let runs = self.runs(name)?;
            best = (best.0.min(runs.mean(Run::mean_s)), best.1.min(runs.mean(p90)));
        }
        Ok(best)
    }
}

/// Runs all of them.
pub(super) fn measure(three: &Three, seeds: u64) -> anyhow::Result<Measured> {
    let cells = Cells { three, seeds };
    let mut bars = Vec::new();
    tool_at_ease(&cells.tool(2.0, 8), &mut bars)?;
    chat_under_load(&cells.chat(4.0, 8), &mut bars)?;
    let wide = cells.tool(8.0, 16);
    bars.push(
        Bar::value("r3_mean_to_best_peer", wide.mean_s("weft")?, "s").against(wide.best_shipped()?.0).at_most(0.7),
    );
    agents(&cells, &mut bars)?;
    bars.push(Bar::value("r6_worst_mean_to_plain", worst_fault(&cells)?, "ratio").at_most(1.1));
    bars.push(Bar::value("r7_worst_mean_to_best_peer", worst_cell(&cells)?, "ratio").at_most(1.05));
    Ok(Measured { params: params(json!({"seeds": seeds, "engines": "simulated, virtual time"})), bars })
}

/// R1: tool calls and chat at half load, device memory only.
fn tool_at_ease(cell: &Cell, bars: &mut Vec<Bar>) -> anyhow::Result<()> {
    let (ours, oracle) = (cell.runs("weft")?, cell.runs("oracle-pool")?);
    let hit = ours.mean(Run::hit_rate);
    let p90_of = |name| Ok::<_, anyhow::Error>(cell.runs(name)?.mean(p90));
    let bar = || Bar::value("", ours.mean(p90), "s");
    bars.extend([
        Bar { id: "r1_hit_to_pool", ..Bar::value("", hit, "share").against(oracle.mean(Run::hit_rate)).at_least(0.92) },
        Bar { id: "r1_hit_to_bound", ..Bar::value("", hit, "share").against(cell.workload.bound()).at_least(0.63) },
        Bar { id: "r1_p90_to_sglang", ..bar().against(p90_of("sglang")?).at_most(0.5) },
        Bar { id: "r1_p90_to_dynamo", ..bar().against(p90_of("dynamo")?).at_most(0.9) },
        Bar { id: "r1_p90_to_gie", ..bar().against(p90_of("gie")?).at_most(0.8) },
        Bar::value("r1_mean_to_pool", ours.mean(Run::mean_s), "s").against(oracle.mean(Run::mean_s)).at_most(1.1),
        Bar::value("r1_busiest_to_mean", ours.mean(Run::imbalance), "ratio").at_most(1.05),
    ]);
    Ok(())
}

/// R2: chat at nine tenths of what the fleet can do.
fn chat_under_load(cell: &Cell, bars: &mut Vec<Bar>) -> anyhow::Result<()> {
    let (ours, oracle) = (cell.runs("weft")?, cell.runs("oracle-pool")?);
    let (mean, best_p90) = cell.best_shipped()?;
    let sglang = cell.runs("sglang")?.mean(p90);
    bars.extend([
        Bar::value("r2_mean_to_best_peer", ours.mean(Run::mean_s), "s").against(mean).at_most(0.9),
        Bar::value("r2_p90_to_best_peer", ours.mean(p90), "s").against(best_p90).at_most(0.85),
        Bar::value("r2_p90_to_sglang", ours.mean(p90), "s").against(sglang).at_most(0.5),
        Bar::value("r2_hit_to_pool", ours.mean(Run::hit_rate), "share")
            .against(oracle.mean(Run::hit_rate))
            .at_least(0.8),
        Bar::value("r2_mean_to_pool", ours.mean(Run::mean_s), "s").against(oracle.mean(Run::mean_s)),
    ]);
    Ok(())
}

/// R4 and R5: coding agents, with host memory and peers, and with peers alone.
fn agents(cells: &Cells<'_>, bars: &mut Vec<Bar>) -> anyhow::Result<()> {
    let tiers = cells.agent(2.0, true, 2.5);
    let ours = tiers.runs("weft")?;
    let mean = || ours.mean(Run::mean_s);
    bars.extend([
        Bar::value("r4_mean", mean(), "s").at_most(0.36),
        Bar::value("r4_p99", ours.mean(|run| run.quantile_s(0.99)), "s").at_most(6.0),
        Bar::value("r4_mean_to_gie", mean(), "s").against(tiers.mean_s("gie")?).at_most(0.9),
        Bar::value("r4_mean_to_pool", mean(), "s").against(tiers.mean_s("oracle-pool")?),
    ]);
    let (with, without) = (cells.agent(2.0, false, 2.5), cells.agent(2.0, false, 0.0));
    let without_s = without.mean_s("weft")?;
    bars.push(Bar::value("r5_mean_to_no_peers", with.mean_s("weft")?, "s").against(without_s).at_most(0.5));
    Ok(())
}

/// R6: an index 100 ms late, and rates believed a quarter off.
fn worst_fault(cells: &Cells<'_>) -> anyhow::Result<f64> {
    let mut worst: f64 = 0.0;
    for plain in [cells.chat(4.0, 8), cells.tool(4.0, 8), cells.agent(2.0, true, 2.5)] {
        let mean = plain.mean_s("weft")?;
        for faulty in [
            plain.with(|setup| setup.index_lag_s = 0.1),
            plain.with(|setup| setup.rate_error = 0.75),
            plain.with(|setup| setup.rate_error = 1.25),
        ] {
            worst = worst.max(faulty.mean_s("weft")? / mean);
        }
    }
    Ok(worst)
}

/// R7: nowhere worse than the best of the others.
fn worst_cell(cells: &Cells<'_>) -> anyhow::Result<f64> {
    let mut grid = Vec::new();
    for speed in [1.0, 2.0, 4.0] {
        grid.extend([cells.chat(speed, 8), cells.tool(speed, 8)]);
        for setup in [(true, 0.0), (true, 2.5), (false, 2.5)] {
            let chosen = |setup_of: &mut Setup| {
                setup_of.host = setup.0.then_some(Cells::HOST);
                setup_of.peer_bytes_per_s = setup.1 * 1e9;
            };
            grid.extend([cells.chat(speed, 8).with(chosen), cells.tool(speed, 8).with(chosen)]);
        }
    }
    grid.extend([cells.chat(2.0, 4), cells.chat(8.0, 16), cells.tool(8.0, 16)]);
    grid.extend([cells.agent(1.0, false, 0.0), cells.agent(2.0, true, 0.0), cells.agent(2.0, true, 2.5)]);
    let mut worst: f64 = 0.0;
    for cell in grid {
        let ours = cell.runs("weft")?;
        if ours.mean(Run::utilisation) < UTILISATION_MAX {
            worst = worst.max(ours.mean(Run::mean_s) / cell.best_shipped()?.0);
        }
    }
    Ok(worst)
}

/// Makes cells.
struct Cells<'a> {
    three: &'a Three,
    seeds: u64,
}

impl Cells<'_> {
    /// 2 million tokens: 256 GB of a model with 128 KiB a token.
    const HOST: Host = Host { tokens: 2_000_000, bytes_per_s: 20e9 };
    /// 64 KiB a token: an 8-bit cache, or latent attention.
    const AGENT: Engine = Engine {
        prefill_tokens_per_s: 20_000.0,
        overhead_s: 0.005,
        slowdown: 0.004,
        decode_s: 0.008,
        decode_each_s: 0.000_06,
        device_tokens: 1_000_000,
        kv_bytes: 65_536.0,
    };

    fn chat(&self, speed: f64, replicas: usize) -> Cell {
        let setup = Setup { replicas, ..Setup::default() };
        Cell { setup, workload: self.three.chat.at(speed, setup.engine.device_tokens), seeds: self.seeds }
    }

    fn tool(&self, speed: f64, replicas: usize) -> Cell {
        let setup = Setup { replicas, ..Setup::default() };
        Cell { setup, workload: self.three.tool.at(speed, setup.engine.device_tokens), seeds: self.seeds }
    }

    fn agent(&self, speed: f64, host: bool, peer_gbps: f64) -> Cell {
        let host = host.then_some(Host { tokens: 4_000_000, ..Self::HOST });
        let setup = Setup { engine: Self::AGENT, host, peer_bytes_per_s: peer_gbps * 1e9, ..Setup::default() };
        Cell { setup, workload: self.three.agent.at(speed, setup.engine.device_tokens), seeds: self.seeds }
    }
}

fn p90(run: &Run) -> f64 {
    run.quantile_s(0.9)
}
