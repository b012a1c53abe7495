//! `weft tenant add|set-quota|set-weight|set-lease-blocks`: what a tenant may use.

use std::collections::BTreeMap;

use serde_json::json;
use weft_types::{ByteSize, GroupId, OperatorAction, TenantId, TenantSettings, Tier};

use super::{TenantArgs, find, operate, tenants};
use crate::cluster::{Cluster, OperatorArgs};
use crate::fault::Fault;

/// Arguments of `weft tenant add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    tenant: TenantArgs,
    /// Bytes its blocks may take in a tier, such as host=64GiB; a tier that is not named is not limited. May be repeated.
    #[arg(long = "quota", value_name = "TIER=SIZE", value_parser = quota)]
    quotas: Vec<Quota>,
    /// Its share when tenants compete, in relation to the others' [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(TenantSettings::WEIGHT_MAX)))]
    weight: Option<u16>,
    /// Distinct blocks that its pins may hold [default: 16384].
    #[arg(long, value_name = "BLOCKS")]
    lease_blocks: Option<u32>,
    /// Sharing group whose public prefixes it uses. May be repeated.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupId>,
    /// The empty salt instead of one of its own: the tenant of callers that bring no key. Cannot be changed later.
    #[arg(long)]
    unsalted: bool,
}

/// Arguments of `weft tenant set-quota`.
#[derive(Debug, clap::Args)]
pub(crate) struct QuotaArgs {
    /// Whose.
    tenant: TenantId,
    /// Such as host=64GiB or disk=unlimited; tiers (device, host, disk, object) that are not named stay as they are.
    #[arg(value_name = "TIER=SIZE", value_parser = quota, required = true)]
    quotas: Vec<Quota>,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant set-weight`.
#[derive(Debug, clap::Args)]
pub(crate) struct WeightArgs {
    /// Whose.
    tenant: TenantId,
    /// 1 to 10000; 100 is the default share.
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(TenantSettings::WEIGHT_MAX)))]
    weight: u16,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant set-lease-blocks`.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaseBlocksArgs {
    /// Whose.
    tenant: TenantId,
    /// Distinct blocks. Pins that are granted already stay, whatever it is.
    blocks: u32,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// A tier, and how much of it; `None`: as much as there is.
pub(super) type Quota = (Tier, Option<ByteSize>);

pub(super) fn quota(text: &str) -> Result<Quota, String> {
    let wrong = || format!("'{text}' is not a quota: expected <tier>=<size>, such as host=64GiB, or disk=unlimited");
    let (tier, size) = text.split_once('=').ok_or_else(wrong)?;
    let known = Tier::ALL.into_iter().find(|known| known.as_str() == tier);
    let tier = known.ok_or_else(|| format!("'{tier}' is not a tier: expected device, host, disk or object"))?;
    match size {
        "unlimited" => Ok((tier, None)),
        size => Ok((tier, Some(size.parse().map_err(|error| format!("{error}, or unlimited"))?))),
    }
}

fn put(into: &mut BTreeMap<Tier, ByteSize>, quotas: &[Quota]) {
    for (tier, size) in quotas {
        match size {
            Some(size) => _ = into.insert(*tier, *size),
            None => _ = into.remove(tier),
        }
    }
}

/// Adds a tenant.
pub(super) async fn add(args: &AddArgs) -> anyhow::Result<()> {
    let TenantArgs { tenant, operator } = &args.tenant;
    let mut settings = TenantSettings { groups: args.groups.iter().cloned().collect(), ..TenantSettings::default() };
    put(&mut settings.quota, &args.quotas);
    settings.weight = args.weight.unwrap_or(settings.weight);
    settings.lease_blocks_max = args.lease_blocks.unwrap_or(settings.lease_blocks_max);
    operator
        .with(async |cluster| {
            // What is put is put over what was there, and adding must not be a way to change.
            if tenants(cluster).await?.tenants.iter().any(|known| known.tenant == *tenant) {
                return Err(Fault::Refused(format!(
                    "tenant {tenant} is there already: `weft tenant show {tenant}` shows it, `weft tenant set-quota`, \
                     `set-weight` and `set-lease-blocks` change it"
                ))
                .into());
            }
            let action = OperatorAction::PutTenant {
                tenant: tenant.clone(),
                settings: settings.clone(),
                unsalted: args.unsalted,
            };
            operate(cluster, action).await?;
            let json = json!({ "tenant": tenant, "settings": settings, "salted": !args.unsalted });
            operator.print(&json, &format!("tenant {tenant} is added: {settings}"));
            if !operator.json {
                eprintln!("Next: weft tenant key add {tenant}");
            }
            Ok(())
        })
        .await
}

/// Sets quotas.
pub(super) async fn set_quota(args: &QuotaArgs) -> anyhow::Result<()> {
    let change = |settings: &mut TenantSettings| put(&mut settings.quota, &args.quotas);
    args.operator.with(async |cluster| set(cluster, &args.operator, &args.tenant, change).await).await
}

/// Sets the weight.
pub(super) async fn set_weight(args: &WeightArgs) -> anyhow::Result<()> {
    let change = |settings: &mut TenantSettings| settings.weight = args.weight;
    args.operator.with(async |cluster| set(cluster, &args.operator, &args.tenant, change).await).await
}

/// Sets the budget of pins.
pub(super) async fn set_lease_blocks(args: &LeaseBlocksArgs) -> anyhow::Result<()> {
    let change = |settings: &mut TenantSettings| settings.lease_blocks_max = args.blocks;
    args.operator.with(async |cluster| set(cluster, &args.operator, &args.tenant, change).await).await
}

/// Changes what a tenant has now. Of two operators who do so in the same moment, the later one's is what stays.
pub(super) async fn set(
    cluster: &Cluster,
    operator: &OperatorArgs,
    tenant: &TenantId,
    change: impl FnOnce(&mut TenantSettings),
) -> anyhow::Result<()> {
    let known = find(&tenants(cluster).await?, tenant)?.clone();
    let mut settings = known.settings;
    change(&mut settings);
    let action =
        OperatorAction::PutTenant { tenant: tenant.clone(), settings: settings.clone(), unsalted: !known.salted };
    operate(cluster, action).await?;
    let json = json!({ "tenant": tenant, "settings": settings });
    operator.print(&json, &format!("tenant {tenant}: {settings}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_tier_and_a_size() {
        assert_eq!(quota("host=64GiB"), Ok((Tier::Host, Some(ByteSize::from_mib(64 << 10)))));
        assert_eq!(quota("disk=unlimited"), Ok((Tier::Disk, None)));
        for (bad, remedy) in [
            ("host", "such as host=64GiB"),
            ("=1GiB", "device, host, disk or object"),
            ("ram=1GiB", "device, host, disk or object"),
            ("host=64", "such as 64GiB, or unlimited"),
            ("host=", "such as 64GiB, or unlimited"),
        ] {
            let error = quota(bad).unwrap_err();
            assert!(error.contains(remedy), "{bad}: {error}");
        }
    }

    #[test]
    fn tiers_that_are_not_named_keep_their_quota() {
        let mut now = BTreeMap::from([(Tier::Host, ByteSize::from_mib(1)), (Tier::Disk, ByteSize::from_mib(2))]);
        put(&mut now, &[(Tier::Host, None), (Tier::Object, Some(ByteSize::from_mib(3)))]);
        assert_eq!(now, [(Tier::Disk, ByteSize::from_mib(2)), (Tier::Object, ByteSize::from_mib(3))].into());
    }
}
