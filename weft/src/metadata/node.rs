//! `weft metadata node remove`: a host that is gone for good, with all that is listed of it.

use anyhow::Context;
use serde_json::json;
use weft_types::{EndpointId, NodeId, OperatorAction, Roster};

use crate::cluster::{DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::tenant::{counted, operate};

/// Changes the list of nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// Remove a node whose host is gone for good, and the engine replicas at it. One that is only stopped leaves by itself, and
    /// keeps its endpoints.
    Remove(RemoveArgs),
}

/// Arguments of `weft metadata node remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name, as `weft status` lists it, or listed it before it fell silent.
    node: NodeId,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What is listed of a host.
#[derive(Debug)]
struct Listed {
    node: bool,
    endpoints: Vec<EndpointId>,
}

/// Runs it.
pub(crate) async fn run(command: &NodeCommand) -> anyhow::Result<()> {
    let NodeCommand::Remove(RemoveArgs { node, operator, confirm }) = command;
    let (listed, said) = operator
        .with(async |cluster| {
            let roster = cluster.newest().await.roster(DEADLINE).await.context("cannot read the nodes")?;
            let listed = find(&roster, node);
            let endpoints = counted(listed.endpoints.len(), "endpoint");
            let said = match &listed {
                Listed { node: false, endpoints } if endpoints.is_empty() => {
                    format!("nothing was listed of node {node}: see `weft status` for those that are")
                }
                _ => {
                    confirm
                        .confirm(&format!("Node {node} goes off the list with all it held, and {endpoints} at it."))?;
                    format!("node {node} is removed, with {endpoints} at it")
                }
            };
            operate(cluster, OperatorAction::RemoveNode { node: node.clone() }).await?;
            Ok((listed, said))
        })
        .await?;
    let json = json!({ "node": node, "removed": listed.node, "endpoints": listed.endpoints });
    operator.print(&json, &said);
    Ok(())
}

fn find(roster: &Roster, node: &NodeId) -> Listed {
    let at_it = roster.endpoints.values().filter(|endpoint| endpoint.node.as_ref() == Some(node));
    Listed { node: roster.nodes.contains_key(node), endpoints: at_it.map(|endpoint| endpoint.id.clone()).collect() }
}
