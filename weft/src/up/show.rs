//! What the operator sees of `weft up`: steps, the two replays side by side, the picture, and where to go from here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use weft_tokens::ModelFiles;
use weft_types::BlockSize;

use super::UpArgs;
use super::plan::{MEMBERS, NODES, Plan};
use super::supervisor::Supervisor;
use crate::bench::plot;
use crate::bench::trace::args::{on_bar, progress_bar};
use crate::bench::trace::{self, Api, Preparation, ReplayConfig, Report, Source, Workload};
use crate::workload::generate::Shape;

/// Time over which the built-in workload arrives, at speed 1.
const SPAN: Duration = Duration::from_secs(40);
/// Lengths of the built-in workload against the real traces': a laptop's cluster for a minute.
const LENGTH_SCALE: f64 = 0.25;
/// Words and arrivals are the same at every run.
const SEED: u64 = 1;

/// Says what happens now.
pub(super) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Replays the workload without and with weft, prints the comparison and draws the picture.
pub(super) async fn replay(
    args: &UpArgs,
    plan: &Plan,
    fleet: &mut Supervisor,
    workload: &Arc<Workload>,
) -> anyhow::Result<()> {
    let bound = workload.bound();
    step(&format!(
        "the workload: {} requests over {:.0} s, {} prompt tokens, of which an infinite cache would spare {:.1} %",
        workload.len(),
        workload.span().as_secs_f64() / args.speed,
        bound.prompt_tokens,
        bound.share() * 100.0,
    ));

    let engines = plan.engines(false)?;
    let router = plan.router(false)?;
    fleet.start(&engines).await?;
    fleet.start(std::slice::from_ref(&router)).await?;
    let without = run(
        "without weft: the same engines on their own, requests dealt in turn",
        args,
        plan.router_url(false),
        workload,
    )
    .await?;
    fleet.stop(&[router]).await;
    fleet.stop(&engines).await;
    let with = run("with weft", args, plan.router_url(true), workload).await?;

    println!("\n{}", trace::table(&[("without weft", &without), ("with weft", &with)]));
    println!(
        "engines are simulated: prefill {} tokens/s, {} device tokens each; KV bytes are real, {} a token",
        args.prefill, args.device_tokens, args.kv_bytes
    );
    let picture = args.state.join("ttft.svg");
    plot::ttft(&[("without weft", &without), ("with weft", &with)], Some(args.prefill), &picture)?;
    println!("picture: {}\n", picture.display());
    if with.failed() + without.failed() > 0 {
        bail!(
            "{} requests failed; the table says why, logs are in {}",
            with.failed() + without.failed(),
            args.state.join("logs").display()
        );
    }
    Ok(())
}

/// Reads or generates what is replayed.
pub(super) async fn prepare(args: &UpArgs, plan: &Plan) -> anyhow::Result<Arc<Workload>> {
    let files = Arc::new(ModelFiles::load(&plan.model())?);
    let source = match &args.trace {
        Some(path) => Source::File { path: path.clone(), block_tokens: 512 },
        None => Source::Generated(Shape {
            seed: SEED,
            requests: args.requests,
            span: SPAN,
            length_scale: LENGTH_SCALE,
            // 512 of the real traces, at the lengths' scale.
            block_tokens: 128,
            mix: Default::default(),
        }),
    };
    let requests = args.requests;
    let prepared = tokio::task::spawn_blocking(move || {
        Workload::prepare(Preparation {
            source,
            requests,
            api: Api::Completions,
            seed: SEED,
            files,
            model: "sim-8b",
            block_size: BlockSize::DEFAULT,
        })
    });
    Ok(Arc::new(prepared.await.context("preparing the workload panicked")??))
}

async fn run(what: &str, args: &UpArgs, url: String, workload: &Arc<Workload>) -> anyhow::Result<Report> {
    step(what);
    let bar = progress_bar(workload.len() as u64, "    replaying");
    let config = ReplayConfig { speed: args.speed, ..ReplayConfig::new(url) };
    let report = trace::replay(&config, workload, on_bar(&bar)).await?;
    bar.finish_and_clear();
    Ok(report)
}

/// Where everything is, and what to try.
pub(super) fn urls(plan: &Plan, state: &Path) {
    let router = plan.router_url(true);
    println!("weft is up. OpenAI API: {router}/v1   try:\n");
    println!("  curl {router}/v1/chat/completions -H 'content-type: application/json' \\");
    println!(
        "    -d '{{\"model\":\"sim-8b\",\"max_tokens\":16,\"messages\":[{{\"role\":\"user\",\"content\":\"hello weft\"}}]}}'\n"
    );
    println!("metrics and state (/metrics, /state):");
    for number in 1..=MEMBERS {
        println!("  metadata-{number}  {}", plan.admin_url("metadata", number));
    }
    for number in 1..=NODES {
        println!("  node-{number}      {}", plan.admin_url("node", number));
    }
    println!("  router-1    {}   the console: open it in a browser", plan.admin_url("router", 1));
    println!(
        "\nlogs: {}   `weft status --state {}` shows members, nodes, endpoints and blocks",
        state.join("logs").display(),
        state.display()
    );
    println!("Ctrl-C stops everything.");
}
