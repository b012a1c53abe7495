//! `weft bench trace`: arguments, progress, and the report in the form of all benches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use weft_tokens::ModelFiles;
use weft_types::BlockSize;

use super::{Api, Loop, OnProgress, Preparation, ReplayConfig, Report, Source, Workload, replay, shipped_model, table};
use crate::bench::form::Outcome;
use crate::bench::workload::ShapeArgs;
use crate::bench::{self, FormArgs, Measured, plot, print};
use crate::http;

/// Longest replay with `--quick`: leaves time to prepare and for the last answers within 40 seconds.
const QUICK_SPAN: Duration = Duration::from_secs(20);
/// Requests of a quick replay.
const QUICK_REQUESTS: usize = 300;

/// Arguments of `weft bench trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Base URL of the router, or of any OpenAI-compatible server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// API key to send.
    #[arg(long)]
    api_key: Option<String>,
    /// Trace file (Mooncake JSONL, plain or zstd), or `builtin` for the generator.
    #[arg(long, default_value = "builtin")]
    trace: String,
    /// API that carries the prompts.
    #[arg(long, value_enum, default_value_t = Api::Completions)]
    api: Api,
    /// How requests follow each other.
    #[arg(long = "loop", value_enum, default_value_t = Loop::Open)]
    arrivals: Loop,
    /// Divides arrival and think times.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// At most so many requests, the earliest; default all of a file, or 1000 generated ones.
    #[arg(long)]
    requests: Option<usize>,
    /// Longest time of a request.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Model name in the requests.
    #[arg(long, default_value = "sim-8b")]
    model: String,
    /// Folder with the model's tokenizer.json; default: the simulated model's.
    #[arg(long)]
    model_folder: Option<PathBuf>,
    /// Tokens in a block of weft, for the bound.
    #[arg(long, default_value_t = BlockSize::DEFAULT.get(), value_parser = clap::value_parser!(u32).range(1..))]
    block_tokens: u32,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Replays and reports.
pub(crate) async fn run(args: TraceArgs) -> anyhow::Result<()> {
    ensure!(args.speed.is_finite() && args.speed > 0.0, "--speed {}: expected a number over 0", args.speed);
    // Arrivals are spread over the span: without this a wrong URL would show at its end only.
    let models = format!("{}/v1/models", args.url.trim_end_matches('/'));
    http::get(&models).await.with_context(|| format!("nothing serves at {}: start it, or give its --url", args.url))?;
    let workload = Arc::new(args.prepare()?);
    let mut config = ReplayConfig {
        api_key: args.api_key.clone(),
        arrivals: args.arrivals,
        speed: args.speed,
        timeout: args.timeout,
        ..ReplayConfig::new(&args.url)
    };
    if args.form.quick {
        config.speed = config.speed.max(workload.span().div_duration_f64(QUICK_SPAN));
        config.timeout = config.timeout.min(QUICK_SPAN / 2);
    }
    let bar = progress_bar(workload.len() as u64, "replaying");
    let report = replay(&config, &workload, on_bar(&bar)).await?;
    bar.finish_and_clear();
    if let Some(path) = &args.form.plot {
        plot::ttft(&[("measured", &report)], None, path)?;
    }
    if !args.form.json {
        print!("{}", table(&[(args.trace.as_str(), &report)]));
        return answered(&report);
    }
    let params = json!({
        "url": args.url, "trace": args.trace, "api": format!("{:?}", args.api).to_lowercase(),
        "loop": format!("{:?}", args.arrivals).to_lowercase(), "speed": config.speed, "requests": workload.len(),
        "seed": args.shape.seed, "block_tokens": args.block_tokens, "failures": report.failures,
    });
    print(&Outcome::new("trace", Measured { params: bench::params(params), bars: report.bars() }), true)?;
    answered(&report)
}

/// Failures are part of a report; one of nothing else says nothing about the server.
fn answered(report: &Report) -> anyhow::Result<()> {
    ensure!(report.failed() < report.requests, "none of {} requests was answered: the table says why", report.requests);
    Ok(())
}

impl TraceArgs {
    fn prepare(&self) -> anyhow::Result<Workload> {
        let (trace_block, limit) = (self.shape.trace_block_tokens, if self.form.quick { QUICK_REQUESTS } else { 1000 });
        let (source, requests) = match self.trace.as_str() {
            "builtin" => {
                let requests = self.requests.unwrap_or(limit);
                (Source::Generated(self.shape.shape(requests)?), requests)
            }
            path => {
                let source = Source::File { path: path.into(), block_tokens: trace_block };
                let all = if self.form.quick { QUICK_REQUESTS } else { usize::MAX };
                (source, self.requests.unwrap_or(all))
            }
        };
        let files = match &self.model_folder {
            Some(folder) => ModelFiles::load(folder)?,
            None => shipped_model()?,
        };
        Workload::prepare(Preparation {
            source,
            requests,
            api: self.api,
            seed: self.shape.seed,
            files: Arc::new(files),
            model: &self.model,
            block_size: BlockSize::new(self.block_tokens).expect("the argument is at least 1"),
        })
    }
}

/// A progress bar on standard error, if that is a terminal.
pub(crate) fn progress_bar(total: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<24} {wide_bar} {pos}/{len} {elapsed}{prefix}");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(message);
    bar
}

/// Moves a bar as a replay goes on; failures are shown as they happen.
pub(crate) fn on_bar(bar: &ProgressBar) -> OnProgress {
    let bar = bar.clone();
    Arc::new(move |progress| {
        bar.set_position(progress.done as u64);
        if progress.failed > 0 {
            bar.set_prefix(format!("  {} failed", progress.failed));
        }
    })
}
