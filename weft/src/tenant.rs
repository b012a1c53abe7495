//! `weft tenant`: whose blocks are whose, and what each may use.
//!
//! What is set here is agreed through the log, under the name in the operator's certificate.

mod groups;
mod keys;
mod public;
mod settings;
mod show;

pub(crate) use self::groups::find as find_group;

use anyhow::Context;
use weft_metadata_proto::v1::{TenantStatus, TenantsResponse};
use weft_types::{Operated, OperatorAction, TenantId};

use crate::cluster::{Cluster, DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::{Fault, unknown};

/// Manages tenants.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TenantCommand {
    /// List tenants, with what they may use and what their pins take.
    List(OperatorArgs),
    /// Show one tenant, its API keys and groups.
    Show(TenantArgs),
    /// Add a tenant. It gets a secret salt of its own, so that nobody else can find or time its blocks.
    Add(settings::AddArgs),
    /// Remove a tenant, with its API keys and pins. Its blocks are found by nobody any more.
    Remove(RemoveArgs),
    /// Set how many bytes its blocks may take in a tier, over the whole cluster.
    SetQuota(settings::QuotaArgs),
    /// Set its share when tenants compete.
    SetWeight(settings::WeightArgs),
    /// Set how many distinct blocks its pins may hold.
    SetLeaseBlocks(settings::LeaseBlocksArgs),
    /// Manage a tenant's API keys.
    Key {
        /// What.
        #[command(subcommand)]
        command: keys::KeyCommand,
    },
    /// Manage sharing groups: tenants of a group hit each other's public prefixes, and nothing else.
    Group {
        /// What.
        #[command(subcommand)]
        command: groups::GroupCommand,
    },
}

/// One tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct TenantArgs {
    /// Its name.
    tenant: TenantId,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    tenant: TenantArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Runs it.
pub(crate) async fn run(command: &TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::List(args) => show::list(args).await,
        TenantCommand::Show(args) => show::one(args).await,
        TenantCommand::Add(args) => settings::add(args).await,
        TenantCommand::Remove(args) => remove(args).await,
        TenantCommand::SetQuota(args) => settings::set_quota(args).await,
        TenantCommand::SetWeight(args) => settings::set_weight(args).await,
        TenantCommand::SetLeaseBlocks(args) => settings::set_lease_blocks(args).await,
        TenantCommand::Key { command } => keys::run(command).await,
        TenantCommand::Group { command } => groups::run(command).await,
    }
}

async fn remove(RemoveArgs { tenant: TenantArgs { tenant, operator }, confirm }: &RemoveArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let known = find(&tenants(cluster).await?, tenant)?.clone();
            confirm.confirm(&format!(
                "Tenant {tenant} goes for good, with {} and {}; whoever bears its name later finds none of its blocks.",
                counted(known.keys.len(), "API key"),
                counted(known.leases as usize, "pin"),
            ))?;
            operate(cluster, OperatorAction::RemoveTenant { tenant: tenant.clone() }).await?;
            let json = serde_json::json!({ "removed": tenant, "keys": known.keys, "leases": known.leases });
            operator.print(&json, &format!("tenant {tenant} is removed"));
            Ok(())
        })
        .await
}

/// All tenants and groups, as new as can be.
pub(crate) async fn tenants(cluster: &Cluster) -> anyhow::Result<TenantsResponse> {
    cluster.newest().await.tenants(DEADLINE).await.context("cannot read the tenants")
}

/// One of them.
pub(crate) fn find<'a>(known: &'a TenantsResponse, tenant: &TenantId) -> Result<&'a TenantStatus, Fault> {
    let found = known.tenants.iter().find(|known| known.tenant == *tenant);
    let names = || known.tenants.iter().map(|known| known.tenant.to_string());
    found.ok_or_else(|| unknown("tenant", tenant.name().as_str(), names(), "weft tenant list"))
}

/// Asks for a change.
pub(crate) async fn operate(cluster: &Cluster, action: OperatorAction) -> anyhow::Result<Operated> {
    Ok(cluster.client.operate(action, DEADLINE).await?)
}

/// `2 pins`, `1 pin`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
