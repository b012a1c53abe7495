//! `weft status`: members, nodes, endpoints, and blocks by tier, as metadata sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::StatusResponse;
use weft_service::config::IdentityFiles;
use weft_transport::{Fabric, Identity, Metrics, Profile};
use weft_types::Roster;

use crate::table::Table;
use crate::up;

/// Longest wait for one member.
const DEADLINE: Duration = Duration::from_secs(2);

/// Arguments of `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Folder of a running `weft up`: where to find its members and an operator's certificate.
    #[arg(long, default_value = "run")]
    pub(crate) state: PathBuf,
    /// Fabric addresses of metadata members, instead of those of `weft up`.
    #[arg(long, value_delimiter = ',', requires = "cert")]
    pub(crate) metadata: Vec<SocketAddr>,
    /// Operator's certificate (`weft certs issue --role admin`), PEM.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "ca")]
    pub(crate) key: Option<PathBuf>,
    /// The cluster's CA, PEM.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// One JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Asks every member, and prints what they say.
pub(crate) async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let (members, files) = target(args)?;
    let pem = files.read()?;
    let identity = Identity::from_pem(&pem.cert, &pem.key, &pem.ca)?;
    let metrics = Metrics::register(&prometheus::Registry::new());
    let fabric = Fabric::bind(unspecified(members[0]), Profile::Control, &identity, metrics)?;
    let client = MetadataClient::new(fabric.clone(), members.clone());
    let statuses = join_all(members.iter().map(|member| client.status(*member, DEADLINE))).await;
    let statuses: Vec<_> = members.iter().copied().zip(statuses).collect();
    if statuses.iter().all(|(_, status)| status.is_err()) {
        let reasons = statuses.iter().filter_map(|(_, status)| status.as_ref().err());
        bail!("no metadata member answered:\n  {}", reasons.map(ToString::to_string).collect::<Vec<_>>().join("\n  "));
    }
    // Of those that answer: a dead one would cost its deadline once more.
    let alive = statuses.iter().filter(|(_, status)| status.is_ok()).map(|(member, _)| *member).collect();
    let roster = MetadataClient::new(fabric.clone(), alive).roster(DEADLINE).await;
    fabric.close().await;
    let answers: Vec<_> =
        statuses.into_iter().map(|(addr, status)| (addr, status.map_err(|e| e.to_string()))).collect();
    let roster = roster.context("the members answer, but none of them gives the roster")?;
    if args.json {
        println!("{:#}", as_json(&answers, &roster));
    } else {
        print!("{}", as_text(&answers, &roster));
    }
    Ok(())
}

type Answers = [(SocketAddr, Result<StatusResponse, String>)];

fn target(args: &StatusArgs) -> anyhow::Result<(Vec<SocketAddr>, IdentityFiles)> {
    if let (Some(cert), Some(key), Some(ca)) = (&args.cert, &args.key, &args.ca) {
        if args.metadata.is_empty() {
            bail!(
                "--cert goes with --metadata: expected the fabric address of at least one member, such as 10.0.0.1:7400"
            );
        }
        return Ok((args.metadata.clone(), IdentityFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() }));
    }
    let members = up::members(&args.state).with_context(|| {
        format!(
            "no `weft up` runs in {}: start it, name its folder with --state, or give --metadata, --cert, --key and --ca",
            args.state.display()
        )
    })?;
    Ok((members, up::operator(&args.state)))
}

/// An address of our own from which `peer` can be reached.
fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

/// The answer of the member that applied most: the others are on their way there.
fn freshest(answers: &Answers) -> Option<&StatusResponse> {
    answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).max_by_key(|status| status.applied)
}

fn as_json(answers: &Answers, roster: &Roster) -> Value {
    let members: Vec<Value> = answers
        .iter()
        .map(|(addr, answer)| match answer {
            Ok(status) => json!({
                "id": status.member, "addr": addr, "state": status.state, "term": status.term,
                "applied": status.applied, "committed": status.committed, "log_bytes": status.log_bytes,
                "leader": status.leader,
            }),
            Err(error) => json!({ "addr": addr, "error": error }),
        })
        .collect();
    let fresh = freshest(answers);
    json!({
        "leader": fresh.and_then(|status| status.leader),
        "members": members,
        "nodes": roster.nodes.values().collect::<Vec<_>>(),
        "endpoints": roster.endpoints.values().collect::<Vec<_>>(),
        "holders": roster.holders.values().map(|grant| json!({
            "holder": grant.holder, "key": grant.key.to_string(), "generation": grant.generation,
            "incarnation": grant.incarnation,
        })).collect::<Vec<_>>(),
        "blocks": fresh.map(|status| status.blocks),
        "tiers": fresh.map(|status| &status.tiers),
    })
}

fn as_text(answers: &Answers, roster: &Roster) -> String {
    let mut text = String::new();
    let mut members = Table::new(&["member", "address", "state", "term", "applied", "log"]);
    for (addr, answer) in answers {
        match answer {
            Ok(status) => members.row([
                status.member.to_string(),
                addr.to_string(),
                format!("{:?}", status.state).to_lowercase(),
                status.term.to_string(),
                status.applied.to_string(),
                format!("{:.1} MiB", mib(status.log_bytes)),
            ]),
            Err(_) => members.row(["?".into(), addr.to_string(), "no answer".into(), "".into(), "".into(), "".into()]),
        }
    }
    let mut nodes = Table::new(&["node", "fabric", "bulk", "boot", "tiers"]);
    for node in roster.nodes.values() {
        let tiers: Vec<_> = node.capacity.iter().map(|(tier, size)| format!("{tier} {size}")).collect();
        nodes.row([
            node.id.to_string(),
            node.fabric.to_string(),
            node.bulk.to_string(),
            node.incarnation.to_string(),
            tiers.join(", "),
        ]);
    }
    let mut endpoints = Table::new(&["endpoint", "url", "node", "models"]);
    for endpoint in roster.endpoints.values() {
        let models: Vec<_> = endpoint.contracts.iter().map(|contract| contract.model_key.model.clone()).collect();
        let node = endpoint.node.as_ref().map_or("-".to_owned(), ToString::to_string);
        endpoints.row([endpoint.id.to_string(), endpoint.url.clone(), node, models.join(", ")]);
    }
    for table in [members, nodes, endpoints] {
        text.push_str(&table.to_string());
        text.push('\n');
    }
    if let Some(status) = freshest(answers) {
        let mut tiers = Table::new(&["tier", "holders", "blocks"]);
        let by_tier: BTreeMap<_, _> = status.tiers.iter().collect();
        for (tier, held) in by_tier {
            tiers.row([tier.to_string(), held.holders.to_string(), held.blocks.to_string()]);
        }
        text.push_str(&tiers.to_string());
        text.push_str(&format!("{} distinct blocks\n", status.blocks));
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "one decimal of a size is shown")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}
