//! `weft lookup`: who has how much of a prompt, as a router would find it, and why not more.
//!
//! The prompt goes through the router's own template, tokenizer and hashing. One member is asked, the leader unless another is
//! named; how far behind the group it is stands beside what it says.

mod render;
mod stop;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::{HolderMatch, StatusResponse};
use weft_types::{HolderKey, IndexKey, MemberId, TenantId};

use self::stop::Stop;
use crate::cluster::{Cluster, DEADLINE, OperatorArgs};
use crate::fault::unknown;
use crate::metadata::status::{Answers, ask, freshest};
use crate::prompt::{Hashed, Prefix, PromptArgs};

/// Places where holders stop that are looked at more closely; each costs two more lookups.
const STOPS_MAX: usize = 16;

/// Arguments of `weft lookup`.
#[derive(Debug, clap::Args)]
pub(crate) struct LookupArgs {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Under whose salt; without it, the empty one of callers that bring no key. Reading a salt is on record.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Ask this member instead of the leader: a router follows any of them.
    #[arg(long, value_name = "ID", value_parser = member)]
    member: Option<MemberId>,
    #[command(flatten)]
    operator: OperatorArgs,
}

fn member(text: &str) -> Result<MemberId, String> {
    text.parse().map(MemberId::new).map_err(|_| "not a member id: expected a number from 1, such as 2".to_owned())
}

/// What was found.
#[derive(Debug)]
struct Found {
    hashed: Hashed,
    answered: Answered,
    /// One for each prefix of `hashed`.
    holders: Vec<Holders>,
}

/// Who answered, and how far it was.
#[derive(Debug)]
struct Answered {
    member: MemberId,
    leads: bool,
    /// Log index it had applied when it answered.
    applied: u64,
    /// Log index that the group had committed by then, as far as any member knows.
    committed: u64,
    /// The leader has said so.
    by_leader: bool,
}

/// Who has how much of one prefix, longest first, and why each stops.
#[derive(Debug)]
struct Holders {
    matches: Vec<(HolderMatch, Stop)>,
}

/// Looks a prompt up.
pub(crate) async fn run(args: &LookupArgs) -> anyhow::Result<()> {
    let found = args.operator.with(async |cluster| look(args, cluster).await).await?;
    args.operator.print(&render::as_json(&found), &render::as_text(&found));
    Ok(())
}

async fn look(args: &LookupArgs, cluster: &Cluster) -> anyhow::Result<Found> {
    let roster = cluster.newest().await.roster(DEADLINE).await.context("cannot read what is served")?;
    let salted = args.tenant.as_ref().into();
    let hashed = args.prompt.hash(cluster, &args.operator.cluster, &roster, salted).await?;
    let answers = ask(cluster).await?;
    let asked = choose(args.member, &answers)?;
    let client = MetadataClient::new(cluster.fabric.clone(), vec![asked.0]);
    let (mut applied, mut holders) = (u64::MAX, Vec::new());
    for prefix in &hashed.prefixes {
        let (as_of, found) = find(&client, prefix).await.context("cannot look the prompt up")?;
        applied = applied.min(as_of);
        holders.push(found);
    }
    let statuses = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let answered = Answered {
        member: asked.1.member,
        leads: asked.1.leader == Some(asked.1.member),
        applied,
        committed: statuses().map(|status| status.committed).max().unwrap_or(0).max(applied),
        by_leader: statuses().any(|status| status.leader == Some(status.member)),
    };
    Ok(Found { hashed, answered, holders })
}

/// The member that is asked for, else the leader, else whoever applied most.
fn choose(wanted: Option<MemberId>, answers: &Answers) -> anyhow::Result<(std::net::SocketAddr, &StatusResponse)> {
    let all = || answers.iter().filter_map(|(addr, answer)| Some((*addr, answer.as_ref().ok()?)));
    if let Some(wanted) = wanted {
        let listed = || all().map(|(_, status)| status.member.to_string());
        return all()
            .find(|(_, status)| status.member == wanted)
            .ok_or_else(|| unknown("answering member", &wanted.to_string(), listed(), "weft metadata list").into());
    }
    let fresh = freshest(answers).context("no member answers")?;
    let best = all().find(|(_, status)| status.leader == Some(status.member));
    best.or_else(|| all().find(|(_, status)| status.member == fresh.member)).context("no member answers")
}

/// Who has how much, and what lies behind the places where they stop.
async fn find(client: &MetadataClient, prefix: &Prefix) -> anyhow::Result<(u64, Holders)> {
    let keys = prefix.keys();
    let first = client.lookup_as_of(&keys, DEADLINE).await?;
    let stops: BTreeSet<usize> = first.matches.iter().map(|found| found.blocks as usize).collect();
    let mut behind = BTreeMap::new();
    for at in stops.into_iter().filter(|at| *at < keys.len()).take(STOPS_MAX) {
        let from = runs(client, &keys[at..]).await?;
        let after = if at + 1 < keys.len() { runs(client, &keys[at + 1..]).await? } else { BTreeMap::new() };
        behind.insert(at, (from, after));
    }
    let matches = first.matches.into_iter().map(|found| {
        let at = found.blocks as usize;
        let known = behind.get(&at).map(|(from, after)| (from, after));
        let why = Stop::new(&found.grant.key, at, keys.len(), known);
        (found, why)
    });
    Ok((first.applied, Holders { matches: matches.collect() }))
}

/// How many blocks each holder has from here on.
async fn runs(client: &MetadataClient, keys: &[IndexKey]) -> anyhow::Result<BTreeMap<HolderKey, usize>> {
    let found = client.lookup(keys, DEADLINE).await?;
    Ok(found.into_iter().map(|(grant, blocks)| (grant.key, blocks as usize)).collect())
}
