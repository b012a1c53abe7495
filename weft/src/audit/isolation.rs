//! `weft audit isolation`: two tenants, made for the audit and removed after it, and one prompt at a time.
//!
//! ```text
//!   a ── primes ──► cluster ── repeats ──► hits          what could be seen is there to be seen: the control
//!   b ── the same prompt ───► must be as if nobody ever sent it: answer, counters, directory, time
//!   b ── with a's salt ─────► the same
//!   certificates of other roles ──► members, nodes ──► refused at the door
//! ```
//! Every check has a control that shows that it would have seen what it looks for. Where a control fails, the check says nothing,
//! and the audit does not pass.

mod directory;
mod doors;
mod report;
mod rounds;
mod tenants;

use std::net::SocketAddr;
use std::path::PathBuf;

use self::directory::Directory;
use self::report::Report;
use self::rounds::Rounds;
use self::tenants::Pair;
use crate::cluster::{Cluster, DEADLINE, OperatorArgs};
use crate::fault::Fault;
use crate::prompt::contracts_of;
use crate::up;
use anyhow::Context;

/// Arguments of `weft audit isolation`.
#[derive(Debug, clap::Args)]
pub(crate) struct IsolationArgs {
    /// Where clients reach the router, such as http://10.0.0.5:8080, instead of that of `weft up`.
    #[arg(long, value_name = "URL")]
    router: Option<String>,
    /// The router's admin port, to see what it was asked to choose from. Default: that of `weft up`; otherwise it is not looked at.
    #[arg(long, value_name = "ADDR")]
    router_admin: Option<SocketAddr>,
    /// Name of the model in requests; may be left out where the cluster serves one model.
    #[arg(long, short)]
    model: Option<String>,
    /// Prompts that each tenant tries; the more, the smaller the difference in time that would be seen.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(8..=1000))]
    prompts: u32,
    /// Tokens of a prompt: the more, the longer computing takes against loading.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=100_000))]
    prompt_tokens: u32,
    /// Times of answers are not compared: for where others keep the machine busy. The report says so.
    #[arg(long)]
    without_timing: bool,
    /// Folder of the cluster's CA (`weft certs init`), to make certificates of other roles for a day and try them. Default: that of `weft
    /// up`; otherwise they are not tried, and the report says so.
    #[arg(long, value_name = "FOLDER")]
    ca_folder: Option<PathBuf>,
    /// Writes the report there too, as Markdown.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Audits, prints what was found, and fails unless all of it is as it must be.
pub(crate) async fn run(args: &IsolationArgs) -> anyhow::Result<()> {
    let report = args.operator.with(async |cluster| audit(args, cluster).await).await?;
    if let Some(file) = &args.report {
        std::fs::write(file, report.as_markdown()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    args.operator.print(&report.as_json(), &report.as_markdown());
    match report.fault() {
        None => Ok(()),
        Some(fault) => Err(Fault::Refused(fault).into()),
    }
}

async fn audit(args: &IsolationArgs, cluster: &Cluster) -> anyhow::Result<Report> {
    let roster = cluster.newest().await.roster(DEADLINE).await.context("cannot read what is served")?;
    let model = args.model(&roster)?;
    let contracts = contracts_of(&roster, &model)?;
    let router = args.router()?;
    eprintln!("two tenants for the time of the audit, {} prompts of {} tokens ...", args.prompts, args.prompt_tokens);
    let pair = Pair::make(cluster).await?;
    let checked = async {
        let directory = Directory { cluster, contracts: contracts.clone() };
        let rounds = Rounds::play(args, &router, &model, &pair, &directory).await?;
        let mut findings = rounds.findings(!args.without_timing);
        findings.push(rounds.candidates(args.admin()?).await);
        findings.push(directory.finding(&pair, &rounds.primed).await?);
        let blocks = directory.blocks(&pair.a, &rounds.primed);
        findings.extend(doors::try_all(args.ca().as_deref(), cluster, &roster, &contracts, &blocks, &pair).await?);
        Ok::<_, anyhow::Error>(Report { model: model.clone(), router: router.clone(), prompts: args.prompts, findings })
    };
    let outcome = tokio::select! {
        outcome = checked => outcome,
        _ = tokio::signal::ctrl_c() => Err(Fault::Refused("stopped before the end: nothing is shown".to_owned()).into()),
    };
    // Whatever came of it: a tenant that nobody knows of is not left behind.
    pair.remove(cluster).await?;
    outcome
}

impl IsolationArgs {
    fn model(&self, roster: &weft_types::Roster) -> Result<String, Fault> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        let mut models: Vec<_> = roster.contracts.iter().map(|contract| contract.model_key.model.clone()).collect();
        models.sort();
        models.dedup();
        match <[String; 1]>::try_from(models) {
            Ok([only]) => Ok(only),
            Err(models) if models.is_empty() => {
                Err(Fault::Refused("no engine with weft has been here: there is nothing to audit".to_owned()))
            }
            Err(models) => Err(Fault::Usage(format!("which model? Say --model with one of {}", models.join(", ")))),
        }
    }

    fn router(&self) -> anyhow::Result<String> {
        match (&self.router, self.operator.cluster.up_state()) {
            (Some(router), _) => Ok(router.trim_end_matches('/').to_owned()),
            (None, Some(state)) => up::router_url(state),
            (None, None) => Err(Fault::Usage("where do clients come? Say --router http://host:port".to_owned()).into()),
        }
    }

    fn admin(&self) -> anyhow::Result<Option<SocketAddr>> {
        match (self.router_admin, self.operator.cluster.up_state()) {
            (Some(admin), _) => Ok(Some(admin)),
            (None, Some(state)) if self.router.is_none() => Ok(up::routers(state)?.first().copied()),
            _ => Ok(None),
        }
    }

    fn ca(&self) -> Option<PathBuf> {
        self.ca_folder.clone().or_else(|| self.operator.cluster.up_state().map(up::ca))
    }
}
