//! The index beside those of other routers, as published: `kv-index` 2.0 (`ChainIndex`) and `dynamo-kv-router` 1.6
//! (`ConcurrentRadixTreeCompressed`, `RadixTree`), on one workload.
//!
//! They live in a crate of their own, `bench/index`, which is built here: hundreds of crates that nothing else of weft needs.
//! A process measures one backend at a time; backends take turns, and the median round counts. All must give the same answers.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::Effort;
use crate::bench::form::Bar;

/// In the order in which they take turns; the first is ours.
const BACKENDS: [&str; 4] = ["weft", "chain", "crtc", "radix"];

/// A fleet, and the bars that it gives.
struct Fleet {
    holders: &'static str,
    block_tokens: &'static str,
    apply: &'static str,
    p50: &'static str,
    p99: &'static str,
    memory: &'static str,
}

macro_rules! fleet {
    ($holders:literal, $tokens:literal) => {
        Fleet {
            holders: $holders,
            block_tokens: $tokens,
            apply: concat!("apply_", $holders, "x", $tokens),
            p50: concat!("lookup_p50_", $holders, "x", $tokens),
            p99: concat!("lookup_p99_", $holders, "x", $tokens),
            memory: concat!("memory_", $holders, "x", $tokens),
        }
    };
}

const FLEETS: [Fleet; 4] = [fleet!("64", "16"), fleet!("64", "64"), fleet!("512", "16"), fleet!("512", "64")];

/// What a run says.
#[derive(Deserialize)]
struct Run {
    apply_ns: f64,
    lookup_p50_ns: f64,
    lookup_p99_ns: f64,
    answers: u64,
}

#[derive(Deserialize)]
struct Bytes {
    bytes: f64,
}

/// Medians of one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    apply_ns: f64,
    p50_ns: f64,
    p99_ns: f64,
    bytes: f64,
}

pub(super) fn measure(effort: Effort) -> anyhow::Result<Vec<Bar>> {
    let manifest = manifest(&env::current_dir()?)?;
    eprintln!("building the indexes of other routers: this takes some minutes the first time");
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo, which builds the indexes of other routers: install Rust, or leave out --peers")?;
    ensure!(built.success(), "cargo could not build {}: see above; it needs a crate registry", manifest.display());
    let programs = target(&manifest)?.join("release");
    let fleets = if effort.quick { &FLEETS[..1] } else { &FLEETS };
    let rounds = if effort.quick { 1 } else { 3 };
    let mut bars = Vec::new();
    for fleet in fleets {
        eprintln!("measuring with {} holders and blocks of {} tokens", fleet.holders, fleet.block_tokens);
        bars.extend(fleet.bars(&fleet.measure(&programs, rounds)?));
    }
    Ok(bars)
}

/// The crate's, in the checkout around a folder.
fn manifest(from: &Path) -> anyhow::Result<PathBuf> {
    let found = from.ancestors().map(|folder| folder.join("bench/index/Cargo.toml")).find(|path| path.is_file());
    found.with_context(|| {
        format!("{} is not in a checkout of weft: --peers builds bench/index, so run it from one", from.display())
    })
}

/// Where cargo puts what it builds of it.
fn target(manifest: &Path) -> anyhow::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version=1", "--no-deps", "--locked", "--manifest-path"]).arg(manifest);
    Ok(says::<Metadata>(&mut command)?.target_directory)
}

/// What a command prints, which must be one object of JSON.
fn says<T: for<'a> Deserialize<'a>>(command: &mut Command) -> anyhow::Result<T> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed something else than JSON"))
}

impl Fleet {
    /// By backend.
    fn measure(&self, programs: &Path, rounds: usize) -> anyhow::Result<Vec<Figures>> {
        let command = |program: &str, backend: &str| {
            let mut command = Command::new(programs.join(program));
            command.args(["--backend", backend, "--holders", self.holders, "--block-tokens", self.block_tokens]);
            command
        };
        let mut runs: Vec<Vec<Run>> = BACKENDS.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (backend, runs) in BACKENDS.iter().zip(&mut runs) {
                runs.push(says(&mut command("weft-bench-index", backend))?);
            }
        }
        let expected = runs[0][0].answers;
        let mut figures = Vec::new();
        for (backend, runs) in BACKENDS.iter().zip(runs) {
            ensure!(
                runs.iter().all(|run| run.answers == expected),
                "{backend} answers otherwise than weft: no figure of this run means anything"
            );
            let Bytes { bytes } = says(&mut command("weft-bench-index-bytes", backend))?;
            figures.push(Figures {
                apply_ns: median(runs.iter().map(|run| run.apply_ns)),
                p50_ns: median(runs.iter().map(|run| run.lookup_p50_ns)),
                p99_ns: median(runs.iter().map(|run| run.lookup_p99_ns)),
                bytes,
            });
        }
        Ok(figures)
    }

    /// Ours against the best peer of each figure.
    fn bars(&self, figures: &[Figures]) -> Vec<Bar> {
        let [ours, peers @ ..] = figures else { return Vec::new() };
        let best = |figure: fn(&Figures) -> f64| peers.iter().map(figure).fold(f64::INFINITY, f64::min);
        vec![
            Bar::value(self.apply, 1e9 / ours.apply_ns, "changes/s")
                .against(1e9 / best(|peer| peer.apply_ns))
                .at_least(1.5),
            Bar::value(self.p50, ours.p50_ns, "ns").against(best(|peer| peer.p50_ns)).at_most(1.0),
            Bar::value(self.p99, ours.p99_ns, "ns").against(best(|peer| peer.p99_ns)).at_most(1.0),
            Bar::value(self.memory, ours.bytes, "bytes").against(best(|peer| peer.bytes)).at_most(0.5),
        ]
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_peer_of_each_figure_counts() {
        let figures = |apply_ns, p50_ns, p99_ns, bytes| Figures { apply_ns, p50_ns, p99_ns, bytes };
        let all = [figures(50.0, 2.0, 9.0, 40.0), figures(100.0, 1.0, 10.0, 100.0), figures(80.0, 4.0, 20.0, 90.0)];
        let bars = FLEETS[0].bars(&all);
        let held: Vec<_> = bars.iter().map(|bar| (bar.id, bar.held.unwrap())).collect();
        assert_eq!(
            held,
            [("apply_64x16", true), ("lookup_p50_64x16", false), ("lookup_p99_64x16", true), ("memory_64x16", true)]
        );
        assert_eq!(bars[0].ratio, Some(1.6));
    }

    #[test]
    fn outside_of_a_checkout_it_says_so() {
        let error = manifest(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("checkout"), "{error}");
        assert!(manifest(Path::new(env!("CARGO_MANIFEST_DIR"))).is_ok());
    }
}
