//! `weft bench workload`: writes a generated trace, and says what it is like.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::workload::generate::{Mix, Shape, generate};
use crate::workload::{self, Row};

/// Arguments of `weft bench workload`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    /// Where to; compressed if it ends in .zst.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Requests.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
}

/// Shape of a generated trace.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShapeArgs {
    /// Another seed gives another trace of the same kind.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Time over which the requests arrive: an hour of the real traces takes so long.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) span: Duration,
    /// Multiplies every length in tokens; 1 is the size of the real traces.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) length_scale: f64,
    /// Tokens in a block of the trace.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) trace_block_tokens: u32,
    /// Share of chat requests, to the other two.
    #[arg(long, default_value_t = Mix::default().chat)]
    pub(crate) chat: f64,
    /// Share of tool calls.
    #[arg(long, default_value_t = Mix::default().tool)]
    pub(crate) tool: f64,
    /// Share of requests of agent loops.
    #[arg(long, default_value_t = Mix::default().agent)]
    pub(crate) agent: f64,
}

impl ShapeArgs {
    /// The shape for so many requests.
    pub(crate) fn shape(&self, requests: usize) -> anyhow::Result<Shape> {
        let Self { seed, span, length_scale, trace_block_tokens: block_tokens, chat, tool, agent } = *self;
        let shares = [chat, tool, agent];
        anyhow::ensure!(
            shares.iter().all(|share| *share >= 0.0) && shares.iter().sum::<f64>() > 0.0,
            "--chat {chat}, --tool {tool}, --agent {agent}: expected shares of at least 0, one of them over 0"
        );
        anyhow::ensure!(length_scale > 0.0, "--length-scale {length_scale}: expected a number over 0");
        anyhow::ensure!(!span.is_zero(), "--span 0s: expected a time over 0");
        Ok(Shape { seed, requests, span, length_scale, block_tokens, mix: Mix { chat, tool, agent } })
    }
}

/// Generates and writes.
pub(crate) fn run(args: &WorkloadArgs) -> anyhow::Result<()> {
    let rows = generate(&args.shape.shape(args.requests)?);
    workload::write(&args.out, &rows).with_context(|| format!("cannot write {}", args.out.display()))?;
    let tokens = |of: fn(&Row) -> u32| rows.iter().map(|row| u64::from(of(row))).sum::<u64>();
    let sessions = rows.iter().filter(|row| row.turn == 0).count();
    println!(
        "{}: {} requests of {sessions} sessions, {} prompt tokens, {} output tokens",
        args.out.display(),
        rows.len(),
        tokens(|row| row.input_length),
        tokens(|row| row.output_length),
    );
    Ok(())
}
