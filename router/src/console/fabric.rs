//! Members, nodes and their tiers, tenants and leases: what the router follows, and what the members say of themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use weft_metadata_client::{Accounts, Follower, MetadataClient, StatusResponse};
use weft_types::{ByteSize, EndpointSpec, HolderId, HolderKey, NodeSpec, Roster, Tenant, TenantId, Tier};

/// Longest wait for a member: a page that is looked at every few seconds does not wait for a dead one.
const MEMBER_WITHIN: Duration = Duration::from_millis(700);

/// Rows of nodes, endpoints or leases that a page gets: more than anybody reads, less than a browser chokes on.
pub(super) const ROWS_MAX: usize = 256;

/// Where it is asked.
#[derive(Clone, Debug)]
pub(super) struct Fabric {
    pub(super) client: MetadataClient,
    pub(super) follower: Follower,
}

impl Fabric {
    /// All of it, of this moment.
    pub(super) async fn describe(&self) -> Value {
        let members = self.client.members();
        let asked = join_all(members.iter().map(|member| self.client.status(*member, MEMBER_WITHIN))).await;
        let answers: Vec<(SocketAddr, Result<StatusResponse, String>)> = members
            .into_iter()
            .zip(asked.into_iter().map(|answer| answer.map_err(|error| error.to_string())))
            .collect();
        let fresh = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).max_by_key(|status| status.applied);
        let listed = fresh.map(|status| &status.by_holder);
        let roster = self.follower.roster();
        json!({
            "follower": {
                "log_index": self.follower.log_index(),
                "blocks": self.follower.blocks(),
                "age_seconds": self.follower.staleness().as_secs_f64(),
            },
            "members": answers.iter().map(member).collect::<Vec<_>>(),
            "blocks": fresh.map(|status| status.blocks),
            "nodes": roster.nodes.values().take(ROWS_MAX).map(|spec| node(spec, &roster, listed)).collect::<Vec<_>>(),
            "nodes_left_out": roster.nodes.len().saturating_sub(ROWS_MAX),
            "endpoints": endpoints(&roster, listed),
            "tenants": tenants(&self.follower.accounts()),
        })
    }
}

fn member((addr, answer): &(SocketAddr, Result<StatusResponse, String>)) -> Value {
    match answer {
        Ok(status) => json!({
            "id": status.member, "addr": addr, "state": status.state, "term": status.term, "applied": status.applied,
            "committed": status.committed, "log_bytes": status.log_bytes,
        }),
        Err(error) => json!({ "addr": addr, "error": error }),
    }
}

type Listed<'a> = Option<&'a BTreeMap<HolderId, u64>>;

fn node(spec: &NodeSpec, roster: &Roster, listed: Listed<'_>) -> Value {
    let endpoints = roster.endpoints.values().filter(|endpoint| endpoint.node.as_ref() == Some(&spec.id));
    let sizes: Vec<u64> =
        endpoints.flat_map(|endpoint| &endpoint.contracts).map(|contract| contract.block_bytes()).collect();
    // With blocks of several sizes, their number does not say what they take.
    let block_bytes = sizes.first().filter(|size| sizes.iter().all(|other| other == *size));
    let tier = |(tier, capacity): (&Tier, &ByteSize)| {
        let is_it =
            |key: &HolderKey| matches!(key, HolderKey::Node { node, tier: of } if *node == spec.id && of == tier);
        let blocks: Option<u64> = listed.map(|listed| blocks_of(roster, listed, is_it));
        json!({
            "tier": tier,
            "capacity_bytes": capacity.bytes(),
            "blocks": blocks,
            "bytes": blocks.zip(block_bytes).map(|(blocks, bytes)| blocks * bytes),
        })
    };
    json!({
        "id": spec.id,
        "fabric": spec.fabric,
        "labels": spec.labels,
        "tiers": spec.capacity.iter().map(tier).collect::<Vec<_>>(),
    })
}

/// The node of each, and the blocks in its device memory.
fn endpoints(roster: &Roster, listed: Listed<'_>) -> BTreeMap<String, Value> {
    let endpoint = |endpoint: &EndpointSpec| {
        let is_its = |key: &HolderKey| matches!(key, HolderKey::Device { endpoint: of, .. } if *of == endpoint.id);
        let blocks = listed.map(|listed| blocks_of(roster, listed, is_its));
        (endpoint.id.to_string(), json!({ "node": endpoint.node, "blocks": blocks }))
    };
    roster.endpoints.values().take(ROWS_MAX).map(endpoint).collect()
}

fn blocks_of(roster: &Roster, listed: &BTreeMap<HolderId, u64>, is_it: impl Fn(&HolderKey) -> bool) -> u64 {
    let holders = roster.holders.values().filter(|grant| is_it(&grant.key));
    holders.filter_map(|grant| listed.get(&grant.holder)).sum()
}

/// Tenants with what was set for them and what they pin. Nothing secret.
fn tenants(accounts: &Accounts) -> Vec<Value> {
    let mut leases: BTreeMap<&TenantId, (u64, u64)> = BTreeMap::new();
    for lease in accounts.leases.values() {
        let (count, blocks) = leases.entry(&lease.tenant).or_default();
        *count += 1;
        *blocks += lease.prefix.len() as u64;
    }
    let tenant = |(id, tenant): (&TenantId, &Tenant)| {
        let (leases, leased_blocks) = leases.get(id).copied().unwrap_or_default();
        json!({
            "tenant": id,
            "weight": tenant.settings.weight,
            "quota": tenant.settings.quota,
            "groups": tenant.settings.groups,
            "leases": leases,
            "leased_blocks": leased_blocks,
            "lease_blocks_max": tenant.settings.lease_blocks_max,
        })
    };
    accounts.tenants.iter().take(ROWS_MAX).map(tenant).collect()
}
