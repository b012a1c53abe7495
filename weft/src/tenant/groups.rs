//! `weft tenant group`: tenants that hit each other's named public prefixes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_metadata_proto::v1::TenantsResponse;
use weft_types::{GroupId, OperatorAction, SharingGroup, TenantId};

use super::{operate, public, settings, tenants};
use crate::cluster::OperatorArgs;
use crate::confirm::ConfirmArgs;
use crate::fault::{Fault, unknown};
use crate::table::Table;

/// Manages sharing groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups, their public prefixes and tenants.
    List(OperatorArgs),
    /// Add a group, with a secret salt of its own.
    Add(GroupArgs),
    /// Remove a group that no tenant is in.
    Remove(RemoveArgs),
    /// Take a tenant into a group.
    Join(MemberArgs),
    /// Take a tenant out of a group.
    Leave(MemberArgs),
    /// Show a group's public prefixes.
    Show(GroupArgs),
    /// Make the full blocks of a prompt a public prefix of a group, or let a name stand for another prompt.
    Publish(public::PublishArgs),
    /// Take a public prefix back.
    Unpublish(public::UnpublishArgs),
}

/// One group.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupArgs {
    /// Its name.
    group: GroupId,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant group remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Arguments of `weft tenant group join|leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct MemberArgs {
    /// The group.
    group: GroupId,
    /// The tenant.
    tenant: TenantId,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Runs it.
pub(super) async fn run(command: &GroupCommand) -> anyhow::Result<()> {
    match command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Add(args) => add(args).await,
        GroupCommand::Remove(args) => remove(args).await,
        GroupCommand::Join(args) => set_member(args, true).await,
        GroupCommand::Leave(args) => set_member(args, false).await,
        GroupCommand::Show(args) => show(args).await,
        GroupCommand::Publish(args) => public::publish(args).await,
        GroupCommand::Unpublish(args) => public::unpublish(args).await,
    }
}

async fn list(operator: &OperatorArgs) -> anyhow::Result<()> {
    let known = operator.with(async |cluster| tenants(cluster).await).await?;
    let groups: Vec<Value> = known.groups.iter().map(|(id, group)| as_json(&known, id, group)).collect();
    operator.print(&json!({ "applied": known.applied, "groups": groups }), &as_text(&known));
    Ok(())
}

fn as_json(known: &TenantsResponse, id: &GroupId, group: &SharingGroup) -> Value {
    let prefixes: Vec<Value> = group
        .prefixes
        .iter()
        .map(|(name, prefix)| json!({ "name": name, "blocks": prefix.blocks, "last": prefix.last.to_string() }))
        .collect();
    json!({ "group": id, "prefixes": prefixes, "tenants": tenants_in(known, id) })
}

fn as_text(known: &TenantsResponse) -> String {
    if known.groups.is_empty() {
        return "no sharing groups: `weft tenant group add <name>` makes the first".to_owned();
    }
    let mut table = Table::new(&["group", "public prefixes", "tenants"]);
    for (id, group) in &known.groups {
        let names: Vec<String> = tenants_in(known, id).iter().map(ToString::to_string).collect();
        table.row([id.to_string(), group.prefixes.len().to_string(), names.join(" ")]);
    }
    table.to_string()
}

fn tenants_in<'a>(known: &'a TenantsResponse, group: &GroupId) -> Vec<&'a TenantId> {
    let is_in = known.tenants.iter().filter(|tenant| tenant.settings.groups.contains(group));
    is_in.map(|tenant| &tenant.tenant).collect()
}

/// A sharing group.
pub(crate) fn find<'a>(known: &'a TenantsResponse, group: &GroupId) -> Result<&'a SharingGroup, Fault> {
    let names = || known.groups.keys().map(ToString::to_string);
    let found = known.groups.get(group);
    found.ok_or_else(|| unknown("sharing group", group.name().as_str(), names(), "weft tenant group list"))
}

async fn show(GroupArgs { group, operator }: &GroupArgs) -> anyhow::Result<()> {
    let known = operator.with(async |cluster| tenants(cluster).await).await?;
    let its = find(&known, group)?;
    let mut table = Table::new(&["public prefix", "blocks", "last block"]);
    for (name, prefix) in &its.prefixes {
        table.row([name.to_string(), prefix.blocks.to_string(), format!("{:?}", prefix.last)]);
    }
    let text = match its.prefixes.is_empty() {
        true => format!("sharing group {group} has no public prefixes: `weft tenant group publish {group}` makes one"),
        false => table.to_string(),
    };
    operator.print(&as_json(&known, group, its), &text);
    Ok(())
}

async fn add(GroupArgs { group, operator }: &GroupArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            if tenants(cluster).await?.groups.contains_key(group) {
                let is = "is there already: `weft tenant group list` shows it";
                return Err(Fault::Refused(format!("sharing group {group} {is}")).into());
            }
            operate(cluster, OperatorAction::PutGroup { group: group.clone(), prefixes: BTreeMap::new() }).await
        })
        .await?;
    operator.print(&json!({ "group": group }), &format!("sharing group {group} is added"));
    Ok(())
}

async fn remove(RemoveArgs { group: GroupArgs { group, operator }, confirm }: &RemoveArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let prefixes = find(&tenants(cluster).await?, group)?.prefixes.len();
            confirm.confirm(&format!(
                "Sharing group {group} goes for good, with its salt; public prefixes: {prefixes}."
            ))?;
            operate(cluster, OperatorAction::RemoveGroup { group: group.clone() }).await
        })
        .await?;
    operator.print(&json!({ "removed": group }), &format!("sharing group {group} is removed"));
    Ok(())
}

async fn set_member(MemberArgs { group, tenant, operator }: &MemberArgs, member: bool) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let known = tenants(cluster).await?;
            find(&known, group)?;
            if !member && !super::find(&known, tenant)?.settings.groups.contains(group) {
                return Err(Fault::Refused(format!("tenant {tenant} is not in sharing group {group}")).into());
            }
            let change = |settings: &mut weft_types::TenantSettings| match member {
                true => _ = settings.groups.insert(group.clone()),
                false => _ = settings.groups.remove(group),
            };
            settings::set(cluster, operator, tenant, change).await
        })
        .await
}
