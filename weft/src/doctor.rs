//! `weft doctor`: looks at this host, at certificates and at the cluster, and says how to mend what it finds.
//!
//! Nothing is changed. What cannot be looked at from here is *skipped*, with the reason; it is never taken for well.

mod cluster;
mod finding;
mod host;
mod identity;

use crate::cluster::ClusterArgs;
use crate::fault::Fault;

use finding::{Finding, State};

/// Arguments of `weft doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Which cluster.
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Look at this host alone: nobody is asked.
    #[arg(long)]
    offline: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Looks, prints, and fails when something is broken.
pub(crate) async fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut findings = host::look().await;
    let files = args.cluster.identity();
    findings.extend(identity::look(files.as_ref()));
    if args.offline {
        findings.push(Finding::skipped("cluster", "nobody was asked: --offline"));
    } else {
        findings.extend(cluster::look(&args.cluster).await);
    }
    print(&findings, args.json);
    let broken = findings.iter().filter(|finding| finding.state == State::Broken).count();
    if broken > 0 {
        return Err(Fault::Refused(format!("{broken} of {} checks found something broken", findings.len())).into());
    }
    Ok(())
}

fn print(findings: &[Finding], json: bool) {
    match json {
        true => println!("{:#}", serde_json::json!({ "findings": findings })),
        false => print!("{}", finding::as_text(findings)),
    }
}
