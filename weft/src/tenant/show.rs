//! `weft tenant list|show`.

use serde_json::{Value, json};
use weft_metadata_proto::v1::TenantStatus;
use weft_types::TenantSettings;

use super::{TenantArgs, find, tenants};
use crate::cluster::OperatorArgs;
use crate::table::Table;

/// Lists them.
pub(super) async fn list(operator: &OperatorArgs) -> anyhow::Result<()> {
    let known = operator.with(async |cluster| tenants(cluster).await).await?;
    let json = json!({
        "applied": known.applied,
        "tenants": known.tenants.iter().map(as_json).collect::<Vec<_>>(),
    });
    operator.print(&json, &as_text(&known.tenants));
    Ok(())
}

/// Shows one.
pub(super) async fn one(TenantArgs { tenant, operator }: &TenantArgs) -> anyhow::Result<()> {
    let known = operator.with(async |cluster| tenants(cluster).await).await?;
    let known = find(&known, tenant)?;
    operator.print(&as_json(known), &details(known));
    Ok(())
}

fn as_json(tenant: &TenantStatus) -> Value {
    let TenantSettings { quota, weight, lease_blocks_max, groups } = &tenant.settings;
    json!({
        "tenant": tenant.tenant, "quota": quota, "weight": weight, "salted": tenant.salted, "keys": tenant.keys,
        "groups": groups, "leases": tenant.leases, "pinned_blocks": tenant.pinned_blocks,
        "lease_blocks_max": lease_blocks_max,
    })
}

fn as_text(tenants: &[TenantStatus]) -> String {
    if tenants.is_empty() {
        return "no tenants: `weft tenant add <name>` makes the first".to_owned();
    }
    let mut table = Table::new(&["tenant", "weight", "quota", "keys", "groups", "pins", "pinned blocks"]);
    for tenant in tenants {
        table.row([
            tenant.tenant.to_string(),
            tenant.settings.weight.to_string(),
            quota(&tenant.settings),
            tenant.keys.len().to_string(),
            listed(&tenant.settings.groups),
            tenant.leases.to_string(),
            format!("{} of {}", tenant.pinned_blocks, tenant.settings.lease_blocks_max),
        ]);
    }
    table.to_string()
}

fn details(tenant: &TenantStatus) -> String {
    let salt = if tenant.salted { "its own" } else { "the empty one (callers that bring no key)" };
    [
        ("tenant", tenant.tenant.to_string()),
        ("weight", tenant.settings.weight.to_string()),
        ("quota", quota(&tenant.settings)),
        ("salt", salt.to_owned()),
        ("API keys", listed(&tenant.keys)),
        ("groups", listed(&tenant.settings.groups)),
        ("pins", tenant.leases.to_string()),
        ("pinned blocks", format!("{} of {}", tenant.pinned_blocks, tenant.settings.lease_blocks_max)),
    ]
    .map(|(name, value)| format!("{name:<14}{value}\n"))
    .concat()
}

fn quota(settings: &TenantSettings) -> String {
    match settings.quota.is_empty() {
        true => "unlimited".to_owned(),
        false => settings.quota.iter().map(|(tier, size)| format!("{tier}={size}")).collect::<Vec<_>>().join(" "),
    }
}

fn listed<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> TenantStatus {
        TenantStatus {
            tenant: "acme".parse().unwrap(),
            settings: TenantSettings::default(),
            salted: true,
            keys: vec!["ci".parse().unwrap()],
            leases: 1,
            pinned_blocks: 15,
        }
    }

    #[test]
    fn a_tenant_shows_what_it_may_use_beside_what_it_uses() {
        let table = as_text(&[acme()]);
        let row = table.lines().nth(1).unwrap();
        assert!(row.contains("unlimited") && row.ends_with("15 of 16384"), "{table}");
        let shown = details(&acme());
        assert!(shown.contains("API keys      ci\n") && shown.contains("groups        none\n"), "{shown}");
        assert_eq!(as_json(&acme())["pinned_blocks"], 15);
        assert!(as_text(&[]).contains("weft tenant add"));
    }
}
