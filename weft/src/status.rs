//! `weft status`: members, nodes, endpoints, and blocks by tier, as metadata sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::StatusResponse;
use weft_node::{Inventory, InventoryRequest, InventoryResponse};
use weft_transport::Target;
use weft_types::{HolderGrant, HolderKey, NodeId, NodeSpec, Role, Roster, Tier};

use crate::cluster::{Cluster, ClusterArgs};
use crate::metadata::status::{Answers, ask, freshest};
use crate::table::{Table, mib};

/// Holders that are listed in text: two screens; a fleet has thousands.
const HOLDERS_SHOWN_MAX: usize = 64;

/// Nodes that are asked what they hold: all at once, so that a fleet does not make a terminal its busiest client.
const NODES_ASKED_MAX: usize = 64;

/// Longest wait for a node.
const NODE_WITHIN: Duration = Duration::from_secs(1);

/// Longest wait for the roster.
const DEADLINE: Duration = Duration::from_secs(2);

/// Arguments of `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// One JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Asks every member, and prints what they say.
pub(crate) async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let cluster = args.cluster.open()?;
    let answers = ask(&cluster).await?;
    // Of those that answer: a dead one would cost its deadline once more.
    let alive: Vec<SocketAddr> = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(addr, _)| *addr).collect();
    let roster = MetadataClient::new(cluster.fabric.clone(), alive).roster(DEADLINE).await;
    let held = match &roster {
        Ok(roster) => inventories(&cluster, roster).await,
        Err(_) => Inventories::new(),
    };
    cluster.fabric.close().await;
    let roster = roster.context("the members answer, but none of them gives the roster")?;
    if args.json {
        println!("{:#}", as_json(&answers, &roster, &held));
    } else {
        print!("{}", as_text(&answers, &roster, &held));
    }
    Ok(())
}

/// What nodes hold by their own account; those that do not answer are not in it.
type Inventories = BTreeMap<NodeId, InventoryResponse>;

async fn inventories(cluster: &Cluster, roster: &Roster) -> Inventories {
    let ask = async |node: &NodeSpec| {
        let target = Target { addr: node.fabric, role: Role::Node, name: Some(node.id.name().clone()) };
        let answer = cluster.fabric.call::<Inventory>(&target, &InventoryRequest {}, NODE_WITHIN).await;
        answer.ok().map(|answer| (node.id.clone(), answer))
    };
    join_all(roster.nodes.values().take(NODES_ASKED_MAX).map(ask)).await.into_iter().flatten().collect()
}

/// Blocks of a holder by its node's account; `None`: it was not asked, or did not answer.
fn held_by(grant: &HolderGrant, roster: &Roster, held: &Inventories) -> Option<u64> {
    match &grant.key {
        HolderKey::Node { node, tier: Tier::Host } => Some(held.get(node)?.host),
        HolderKey::Node { node, tier: Tier::Disk } => held.get(node)?.disk,
        HolderKey::Node { .. } => None,
        // The engine's ranks report as one.
        HolderKey::Device { endpoint, .. } => {
            let node = roster.endpoints.get(endpoint)?.node.as_ref()?;
            held.get(node)?.devices.get(endpoint).copied()
        }
    }
}

fn as_json(answers: &Answers, roster: &Roster, held: &Inventories) -> Value {
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
        "inventories": held,
        "endpoints": roster.endpoints.values().collect::<Vec<_>>(),
        "holders": roster.holders.values().map(|grant| json!({
            "holder": grant.holder, "key": grant.key.to_string(), "generation": grant.generation,
            "incarnation": grant.incarnation,
            "blocks": fresh.and_then(|status| status.by_holder.get(&grant.holder)),
            "held": held_by(grant, roster, held),
        })).collect::<Vec<_>>(),
        "blocks": fresh.map(|status| status.blocks),
        "tiers": fresh.map(|status| &status.tiers),
    })
}

fn as_text(answers: &Answers, roster: &Roster, held: &Inventories) -> String {
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
    let mut nodes = Table::new(&["node", "fabric", "bulk", "boot", "tiers", "differed", "reports waiting"]);
    for node in roster.nodes.values() {
        let tiers: Vec<_> = node.capacity.iter().map(|(tier, size)| format!("{tier} {size}")).collect();
        nodes.row([
            node.id.to_string(),
            node.fabric.to_string(),
            node.bulk.to_string(),
            node.incarnation.to_string(),
            tiers.join(", "),
            held.get(&node.id).map_or("?".to_owned(), |one| one.differed.values().sum::<u64>().to_string()),
            held.get(&node.id).map_or("no answer".to_owned(), |one| one.waiting.to_string()),
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
        text.push_str(&by_holder(status, roster, held));
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

/// Who holds how much: as the directory lists it, and by its node's own account.
fn by_holder(status: &StatusResponse, roster: &Roster, held: &Inventories) -> String {
    let mut table = Table::new(&["holder", "number", "life", "boot", "listed", "held"]);
    for grant in roster.holders.values().take(HOLDERS_SHOWN_MAX) {
        // Granted since the status was asked for.
        let blocks = status.by_holder.get(&grant.holder).map_or("?".to_owned(), ToString::to_string);
        table.row([
            grant.key.to_string(),
            grant.holder.to_string(),
            grant.generation.to_string(),
            grant.incarnation.to_string(),
            blocks,
            held_by(grant, roster, held).map_or("?".to_owned(), |blocks| blocks.to_string()),
        ]);
    }
    let more = match roster.holders.len().saturating_sub(HOLDERS_SHOWN_MAX) {
        0 => String::new(),
        more => format!("and {more} more: --json lists them\n"),
    };
    format!("{table}{more}\n")
}

#[cfg(test)]
mod tests {
    use weft_metadata_proto::v1::MemberState;
    use weft_types::{Generation, HolderId, Incarnation, LogTime, MemberId};

    use super::*;

    #[test]
    fn holders_are_listed_with_their_blocks_up_to_a_bound() {
        let grant = |number: u32| HolderGrant {
            key: HolderKey::Node { node: format!("n{number:03}").parse().unwrap(), tier: Tier::Host },
            holder: HolderId::new(number),
            generation: Generation::new(2),
            incarnation: Incarnation::new(1),
        };
        let holders = (0..HOLDERS_SHOWN_MAX as u32 + 3).map(|number| (HolderId::new(number), grant(number))).collect();
        let roster = Roster { holders, ..Roster::default() };
        let status = StatusResponse {
            member: MemberId::new(1),
            state: MemberState::Leader,
            leader: None,
            leader_addr: None,
            term: 1,
            last_log: 1,
            committed: 1,
            applied: 1,
            snapshot: None,
            log_bytes: 0,
            log_time: LogTime::ZERO,
            members: vec![],
            blocks: 0,
            refused_blocks: 0,
            tiers: BTreeMap::new(),
            nodes: 0,
            endpoints: 0,
            by_holder: [(HolderId::new(0), 35)].into(),
            tenants: 0,
            leases: 0,
            leased_blocks: 0,
        };
        let one =
            InventoryResponse { host: 36, devices: BTreeMap::new(), differed: BTreeMap::new(), waiting: 0, disk: None };
        let held = [("n000".parse().unwrap(), one)].into();
        let text = by_holder(&status, &roster, &held);
        assert!(
            text.contains("n000/host       0     2     1      35    36\nn001/host       1     2     1  ?       ?\n"),
            "{text}"
        );
        assert!(text.contains("\nand 3 more: --json lists them\n"), "{text}");
    }
}
