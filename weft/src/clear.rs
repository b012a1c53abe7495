//! `weft clear`: has nodes drop blocks; of a whole tenant, has them found by nobody.
//!
//! ```text
//!   note in the log who asks for what ──► each node drops, and says how many ──► the directory hears of it as of evictions
//! ```

mod scope;
mod tenant;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_node::{Clear, ClearRequest, ClearResponse};
use weft_transport::Target;
use weft_types::{HolderId, HolderKey, NodeId, NodeSpec, OperatorAction, Role, Roster};

use self::scope::ScopeArgs;
use crate::cluster::{Cluster, DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::metadata::status::{ask, freshest};
use crate::table::Table;
use crate::tenant::operate;

/// Longest wait for a node: it looks at every slot, some 50 ns each.
const CLEAR_WITHIN: Duration = Duration::from_secs(30);

/// Longest wait for the directory to have heard of it: nodes report within 10 ms, and again until they are heard.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks at the directory.
const PAUSE: Duration = Duration::from_millis(50);

/// Arguments of `weft clear`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Pinned blocks too.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What one node did.
#[derive(Debug)]
struct Cleared {
    node: NodeId,
    answer: Result<ClearResponse, String>,
    /// Blocks of it that the directory lists.
    listed: u64,
}

/// Clears.
pub(crate) async fn run(args: &ClearArgs) -> anyhow::Result<()> {
    let ClearArgs { scope, force, operator, confirm } = args;
    if let Some(tenant) = scope.whole_tenant()? {
        return tenant::clear(tenant, *force, operator, *confirm).await;
    }
    let cleared = operator
        .with(async |cluster| {
            let roster = cluster.newest().await.roster(DEADLINE).await.context("cannot read which nodes there are")?;
            let scope = scope.resolve(cluster, &operator.cluster, &roster).await?;
            let what = format!("clear {scope}{}", if *force { ", pinned ones too" } else { "" });
            confirm.confirm(&format!("This will {what}. They have to be computed again."))?;
            // On record before anything is dropped: what then fails, was asked for all the same.
            operate(cluster, OperatorAction::Note { what }).await?;
            // The note is in there, and so is every pin that was granted before it.
            let as_of = cluster.newest().await.audit(1, DEADLINE).await?.applied;
            let request = ClearRequest {
                contracts: scope.contracts.clone(),
                blocks: scope.blocks.clone(),
                pins: (!force).then_some(as_of),
            };
            let answers = join_all(scope.nodes.iter().map(|node| clear(cluster, node, &request))).await;
            heard(cluster, &roster, answers).await
        })
        .await?;
    operator.print(&as_json(&cleared), &as_text(&cleared));
    let failed: Vec<String> =
        cleared.iter().filter_map(|one| Some(format!("{}: {}", one.node, one.answer.as_ref().err()?))).collect();
    if !failed.is_empty() {
        bail!("what these nodes hold stays; run the command again to have it dropped:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

async fn clear(cluster: &Cluster, node: &NodeSpec, request: &ClearRequest) -> (NodeId, Result<ClearResponse, String>) {
    let target = Target { addr: node.fabric, role: Role::Node, name: Some(node.id.name().clone()) };
    let answer = cluster.fabric.call::<Clear>(&target, request, CLEAR_WITHIN).await;
    (node.id.clone(), answer.map_err(|error| error.to_string()))
}

/// Waits until the directory lists no more of a node than it holds. Under load it may never be so: then it says what is listed.
async fn heard(
    cluster: &Cluster,
    roster: &Roster,
    answers: Vec<(NodeId, Result<ClearResponse, String>)>,
) -> anyhow::Result<Vec<Cleared>> {
    let until = Instant::now() + HEARD_WITHIN;
    loop {
        let statuses = ask(cluster).await?;
        let by_holder = &freshest(&statuses).context("no member answers")?.by_holder;
        let cleared = |(node, answer): &(NodeId, Result<ClearResponse, String>)| Cleared {
            node: node.clone(),
            answer: answer.clone(),
            listed: listed(roster, by_holder, node),
        };
        let cleared: Vec<Cleared> = answers.iter().map(cleared).collect();
        let heard = |one: &Cleared| one.answer.as_ref().map_or(true, |answer| one.listed <= answer.held);
        if cleared.iter().all(heard) || Instant::now() > until {
            return Ok(cleared);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Blocks that are listed of a node's own tiers.
fn listed(roster: &Roster, by_holder: &BTreeMap<HolderId, u64>, node: &NodeId) -> u64 {
    let its =
        roster.holders.values().filter(|grant| matches!(&grant.key, HolderKey::Node { node: of, .. } if of == node));
    its.filter_map(|grant| by_holder.get(&grant.holder)).sum()
}

fn as_json(cleared: &[Cleared]) -> Value {
    let node = |one: &Cleared| match &one.answer {
        Ok(answer) => json!({
            "node": one.node, "removed": answer.removed, "pinned": answer.leased, "held": answer.held, "listed": one.listed,
        }),
        Err(error) => json!({ "node": one.node, "error": error, "listed": one.listed }),
    };
    json!({ "nodes": cleared.iter().map(node).collect::<Vec<_>>() })
}

fn as_text(cleared: &[Cleared]) -> String {
    let mut table = Table::new(&["node", "dropped", "stay, pinned", "held now", "listed"]);
    for one in cleared {
        let numbers = match &one.answer {
            Ok(answer) => [answer.removed, answer.leased, answer.held].map(|number| number.to_string()),
            Err(_) => ["no answer".to_owned(), "?".to_owned(), "?".to_owned()],
        };
        table.row([one.node.to_string()].into_iter().chain(numbers).chain([one.listed.to_string()]));
    }
    let pinned: u64 = cleared.iter().filter_map(|one| Some(one.answer.as_ref().ok()?.leased)).sum();
    let hint = match pinned {
        0 => String::new(),
        _ => format!("{} because of pins: see `weft pins`; --force drops them too\n", stay(pinned)),
    };
    format!("{table}{hint}")
}

fn stay(blocks: u64) -> String {
    if blocks == 1 { "1 block stays".to_owned() } else { format!("{blocks} blocks stay") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_told_with_the_reason() {
        let node = |name: &str, answer| Cleared { node: name.parse().unwrap(), answer, listed: 7 };
        let answer = ClearResponse { removed: 30, leased: 5, held: 7 };
        let text = as_text(&[node("n1", Ok(answer)), node("n2", Err("down".to_owned()))]);
        assert!(text.contains("n1           30             5         7       7\n"), "{text}");
        assert!(text.contains("n2    no answer") && text.ends_with("--force drops them too\n"), "{text}");
        assert_eq!(as_json(&[node("n2", Err("down".to_owned()))])["nodes"][0]["error"], "down");
    }
}
