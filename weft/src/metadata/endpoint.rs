//! `weft metadata endpoint remove`: an engine replica that nobody will ever take off the list by itself.

use anyhow::Context;
use serde_json::json;
use weft_types::{EndpointId, OperatorAction};

use crate::cluster::{DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::unknown;

/// Changes the list of endpoints.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EndpointCommand {
    /// Remove an endpoint whose engine and node are gone for good. Elsewhere stop the engine: its node removes it.
    Remove(RemoveArgs),
}

/// Arguments of `weft metadata endpoint remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name, as `weft status` lists it.
    endpoint: EndpointId,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Runs it.
pub(crate) async fn run(command: &EndpointCommand) -> anyhow::Result<()> {
    let EndpointCommand::Remove(RemoveArgs { endpoint, operator, confirm }) = command;
    operator
        .with(async |cluster| {
            let roster = cluster.newest().await.roster(DEADLINE).await.context("cannot read the endpoints")?;
            let Some(known) = roster.endpoints.get(endpoint) else {
                let names = roster.endpoints.keys().map(ToString::to_string);
                return Err(unknown("endpoint", endpoint.name().as_str(), names, "weft status").into());
            };
            confirm.confirm(&format!("Endpoint {endpoint} ({}) gets no requests any more.", known.url))?;
            cluster.client.operate(OperatorAction::RemoveEndpoint { endpoint: endpoint.clone() }, DEADLINE).await?;
            Ok(())
        })
        .await?;
    operator.print(&json!({ "removed": endpoint }), &format!("endpoint {endpoint} is removed"));
    Ok(())
}
