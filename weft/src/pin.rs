//! `weft pin|repin|unpin|pins`: timed promises not to evict a prefix, on a tenant's budget. Metadata calls them leases.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use weft_metadata_proto::v1::{LeasesResponse, TenantStatus, TenantsResponse};
use weft_types::{HolderGrant, Lease, LeaseId, Operated, OperatorAction, TenantId, Tier};

use crate::cluster::{Cluster, DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::{Fault, unknown};
use crate::prompt::{Hashed, Prefix, PromptArgs, Salted};
use crate::table::{Table, ago};
use crate::tenant::{counted, find, operate, tenants};

/// Arguments of `weft pin`.
#[derive(Debug, clap::Args)]
pub(crate) struct PinArgs {
    /// On whose budget, and under whose salt.
    #[arg(long)]
    tenant: TenantId,
    /// For how long, such as 30m, 2h or 7d; at most 30 days.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Duration,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft repin`.
#[derive(Debug, clap::Args)]
pub(crate) struct RepinArgs {
    /// Its number, as `weft pins` lists it.
    #[arg(value_parser = number)]
    pin: LeaseId,
    /// For how long from now, such as 30m, 2h or 7d; at most 30 days.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Duration,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft unpin`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpinArgs {
    /// Its number, as `weft pins` lists it.
    #[arg(value_parser = number)]
    pin: LeaseId,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

fn number(text: &str) -> Result<LeaseId, String> {
    match text.parse() {
        Ok(id) => Ok(LeaseId::new(id)),
        Err(_) => Err("not a pin's number: expected one that `weft pins` lists, such as 3".to_owned()),
    }
}

/// Pins the full blocks of a prompt.
pub(crate) async fn pin(args: &PinArgs) -> anyhow::Result<()> {
    let PinArgs { tenant, ttl, prompt, operator } = args;
    operator
        .with(async |cluster| {
            let newest = cluster.newest().await;
            let roster = newest.roster(DEADLINE).await.context("cannot read what is served")?;
            let hashed = prompt.hash(cluster, &operator.cluster, &roster, Salted::Tenant(tenant)).await?;
            let prefix = pinnable(&hashed)?;
            let prefix_keys = prefix.keys();
            let held = newest.lookup(&prefix_keys, DEADLINE).await.context("cannot look the prompt up")?;
            let action = OperatorAction::GrantLease { tenant: tenant.clone(), prefix: prefix_keys, ttl: *ttl };
            let Operated::Leased { lease, .. } = operate(cluster, action).await? else {
                anyhow::bail!("metadata granted something else than a pin: is it of another release?")
            };
            let tenant = find(&tenants(cluster).await?, tenant)?.clone();
            let granted =
                Granted { lease, ttl: *ttl, blocks: prefix.blocks.len(), tokens: hashed.tokens, held, tenant };
            operator.print(&granted.as_json(prefix), &granted.as_text(prefix));
            Ok(())
        })
        .await
}

/// The one prefix that can be pinned.
fn pinnable(hashed: &Hashed) -> Result<&Prefix, Fault> {
    let prefix = hashed.only()?;
    match prefix.blocks.len() {
        ..=Lease::BLOCKS_MAX => Ok(prefix),
        blocks => Err(Fault::Usage(format!(
            "the prompt has {blocks} blocks, and one pin holds at most {}: pin a shorter beginning of it",
            Lease::BLOCKS_MAX,
        ))),
    }
}

/// A pin that was granted.
struct Granted {
    lease: LeaseId,
    ttl: Duration,
    blocks: usize,
    /// Of the prompt.
    tokens: usize,
    /// Who has how much of it now.
    held: Vec<(HolderGrant, u32)>,
    tenant: TenantStatus,
}

impl Granted {
    /// Most leading blocks that any tier of a node has: what an engine keeps in its device is its own affair.
    fn held(&self) -> u32 {
        let tiers = self.held.iter().filter(|(grant, _)| grant.key.tier() != Tier::Device);
        tiers.map(|(_, blocks)| *blocks).max().unwrap_or(0)
    }

    fn as_json(&self, prefix: &Prefix) -> Value {
        json!({
            "lease": self.lease, "tenant": self.tenant.tenant, "for_s": self.ttl.as_secs(), "blocks": self.blocks,
            "tokens": self.blocks * prefix.block_size().tokens(), "prompt_tokens": self.tokens,
            "held_blocks": self.held(), "pinned_blocks": self.tenant.pinned_blocks,
            "lease_blocks_max": self.tenant.settings.lease_blocks_max,
        })
    }

    fn as_text(&self, prefix: &Prefix) -> String {
        let tenant = &self.tenant;
        let mut text = format!(
            "pin {}: {} ({} of {} tokens) for {}, until `weft unpin {}`\ntenant {} has {} of {} blocks of its budget pinned\n",
            self.lease,
            counted(self.blocks, "block"),
            self.blocks * prefix.block_size().tokens(),
            self.tokens,
            humantime::format_duration(self.ttl),
            self.lease,
            tenant.tenant,
            tenant.pinned_blocks,
            tenant.settings.lease_blocks_max,
        );
        let held = self.held();
        if (held as usize) < self.blocks {
            text.push_str(&format!(
                "No node holds more than {held} of them now: a pin keeps what is there, and brings nothing there\n"
            ));
        }
        text
    }
}

/// Lets a pin last longer.
pub(crate) async fn repin(RepinArgs { pin, ttl, operator }: &RepinArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            known(cluster, *pin).await?;
            operate(cluster, OperatorAction::RenewLease { lease: *pin, ttl: *ttl }).await?;
            let left = cluster.newest().await.leases(DEADLINE).await?;
            let left = left.leases.iter().find(|lease| lease.lease == *pin).map_or(*ttl, |lease| lease.left);
            let text = format!("pin {pin} lasts for {}", ago(left + Duration::from_millis(500)));
            operator.print(&json!({ "lease": pin, "left_s": left.as_secs() }), &text);
            Ok(())
        })
        .await
}

/// Ends a pin.
pub(crate) async fn unpin(UnpinArgs { pin, operator, confirm }: &UnpinArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let (tenant, blocks) = known(cluster, *pin).await?;
            let blocks = counted(blocks as usize, "block");
            confirm.confirm(&format!("Pin {pin} of tenant {tenant} ends, and its {blocks} may be evicted."))?;
            operate(cluster, OperatorAction::ReleaseLease { lease: *pin }).await?;
            operator.print(&json!({ "released": pin, "tenant": tenant }), &format!("pin {pin} has ended"));
            Ok(())
        })
        .await
}

/// Whose it is, and how many blocks it has.
async fn known(cluster: &Cluster, pin: LeaseId) -> anyhow::Result<(TenantId, u32)> {
    let leases = cluster.newest().await.leases(DEADLINE).await.context("cannot read the pins")?.leases;
    match leases.iter().find(|lease| lease.lease == pin) {
        Some(lease) => Ok((lease.tenant.clone(), lease.blocks)),
        None => {
            let numbers = leases.iter().map(|lease| lease.lease.to_string());
            Err(unknown("pin", &pin.to_string(), numbers, "weft pins").into())
        }
    }
}

/// Lists pins.
pub(crate) async fn list(operator: &OperatorArgs) -> anyhow::Result<()> {
    let (leases, tenants) = operator
        .with(async |cluster| {
            let newest = cluster.newest().await;
            let leases = newest.leases(DEADLINE).await.context("cannot read the pins")?;
            Ok((leases, newest.tenants(DEADLINE).await.context("cannot read the tenants")?))
        })
        .await?;
    operator.print(&as_json(&leases, &tenants), &as_text(&leases, &tenants));
    Ok(())
}

fn budgets(tenants: &TenantsResponse) -> impl Iterator<Item = &TenantStatus> {
    tenants.tenants.iter().filter(|tenant| tenant.leases > 0)
}

fn as_json(leases: &LeasesResponse, tenants: &TenantsResponse) -> Value {
    let pin = |lease: &weft_metadata_proto::v1::LeaseStatus| {
        json!({
            "lease": lease.lease, "tenant": lease.tenant, "blocks": lease.blocks, "first": lease.first.to_string(),
            "left_s": lease.left.as_secs(),
        })
    };
    let budget = |tenant: &TenantStatus| {
        json!({
            "tenant": tenant.tenant, "leases": tenant.leases, "pinned_blocks": tenant.pinned_blocks,
            "lease_blocks_max": tenant.settings.lease_blocks_max,
        })
    };
    json!({
        "applied": leases.applied,
        "pins": leases.leases.iter().map(pin).collect::<Vec<_>>(),
        "budgets": budgets(tenants).map(budget).collect::<Vec<_>>(),
    })
}

fn as_text(leases: &LeasesResponse, tenants: &TenantsResponse) -> String {
    if leases.leases.is_empty() {
        return "nothing is pinned".to_owned();
    }
    let mut pins = Table::new(&["pin", "tenant", "blocks", "first block", "left"]);
    for lease in &leases.leases {
        pins.row([
            lease.lease.to_string(),
            lease.tenant.to_string(),
            lease.blocks.to_string(),
            format!("{:?}", lease.first),
            ago(lease.left),
        ]);
    }
    let mut used = Table::new(&["tenant", "pins", "pinned blocks", "budget"]);
    for tenant in budgets(tenants) {
        used.row([
            tenant.tenant.to_string(),
            tenant.leases.to_string(),
            tenant.pinned_blocks.to_string(),
            tenant.settings.lease_blocks_max.to_string(),
        ]);
    }
    format!("{pins}\n{used}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weft_metadata_proto::v1::LeaseStatus;
    use weft_types::{IndexKey, TenantSettings};

    use super::*;

    #[test]
    fn pins_are_listed_beside_the_budgets_they_take_from() {
        let tenant = |name: &str, leases| TenantStatus {
            tenant: name.parse().unwrap(),
            settings: TenantSettings { lease_blocks_max: 100, ..TenantSettings::default() },
            salted: true,
            keys: Vec::new(),
            leases,
            pinned_blocks: leases * 15,
        };
        let (applied, groups) = (9, BTreeMap::new());
        let tenants = TenantsResponse { applied, tenants: vec![tenant("acme", 1), tenant("idle", 0)], groups };
        let lease = LeaseStatus {
            lease: LeaseId::new(3),
            tenant: "acme".parse().unwrap(),
            first: IndexKey::from_bytes([0xab; 16]),
            blocks: 15,
            left: Duration::from_secs(7_199),
        };
        let leases = LeasesResponse { applied, leases: vec![lease] };
        let text = as_text(&leases, &tenants);
        assert!(text.contains("abababababababab  1h 59m"), "{text}");
        assert!(text.ends_with("15     100\n") && !text.contains("idle"), "{text}");
        assert_eq!(as_json(&leases, &tenants)["pins"][0]["left_s"], 7_199);
        assert_eq!(as_text(&LeasesResponse { applied, leases: Vec::new() }, &tenants), "nothing is pinned");
    }

    #[test]
    fn a_pins_number_is_a_number() {
        assert_eq!(number("3"), Ok(LeaseId::new(3)));
        assert!(number("x").unwrap_err().contains("`weft pins` lists"));
    }
}
