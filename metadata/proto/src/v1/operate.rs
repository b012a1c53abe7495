//! What operators change, and what they read of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_types::{
    AuditEntry, GroupId, IndexKey, KeyId, LeaseId, LogTime, OperatorAction, RequestId, Serial, ShardId, SharingGroup,
    TenantId, TenantSettings, control_message,
};

/// Request of [`super::method::Operate`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperateRequest {
    /// Which group.
    pub shard: ShardId,
    /// Chosen at random, and the same when the same is sent again: it is done once.
    pub request: RequestId,
    /// What.
    pub action: OperatorAction,
}

/// Request of [`super::method::Tenants`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantsRequest {
    /// Which group.
    pub shard: ShardId,
}

/// A tenant, without its secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Who.
    pub tenant: TenantId,
    /// What an operator set.
    pub settings: TenantSettings,
    /// It has a salt of its own; `false`: the empty one.
    pub salted: bool,
    /// What its API keys are listed by.
    pub keys: Vec<KeyId>,
    /// Leases that have not ended.
    pub leases: u32,
    /// Distinct blocks that they pin.
    pub pinned_blocks: u32,
}

/// Every tenant and sharing group, as one member has applied them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantsResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// By name.
    pub tenants: Vec<TenantStatus>,
    /// By name, without salts.
    pub groups: BTreeMap<GroupId, SharingGroup>,
}

/// Request of [`super::method::Leases`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeasesRequest {
    /// Which group.
    pub shard: ShardId,
}

/// A lease, without its blocks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Which.
    pub lease: LeaseId,
    /// On whose budget.
    pub tenant: TenantId,
    /// Its first block.
    pub first: IndexKey,
    /// Blocks that it pins.
    pub blocks: u32,
    /// How long it lasts unless it is renewed: from now on by the leader's clock, elsewhere from the last entry applied.
    pub left: Duration,
}

/// Every lease, as one member has applied them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeasesResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// By number.
    pub leases: Vec<LeaseStatus>,
}

/// Request of [`super::method::Audit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Which group.
    pub shard: ShardId,
    /// So many of the newest.
    pub last: u32,
}

/// What operators asked for, as one member has applied it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// The group's time: now by the leader's clock, elsewhere that of the last entry applied.
    pub log_time: LogTime,
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
}

/// Request of [`super::method::Revoked`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedRequest {
    /// Which group.
    pub shard: ShardId,
}

/// A line of the deny list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedStatus {
    /// Which certificate.
    pub serial: Serial,
    /// Since when.
    pub at: LogTime,
    /// Why.
    pub reason: String,
}

/// The deny list, as one member has applied it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// The group's time: now by the leader's clock, elsewhere that of the last entry applied.
    pub log_time: LogTime,
    /// By serial number.
    pub revoked: Vec<RevokedStatus>,
}

control_message!(
    OperateRequest,
    TenantsRequest,
    TenantsResponse,
    LeasesRequest,
    LeasesResponse,
    AuditRequest,
    AuditResponse,
    RevokedRequest,
    RevokedResponse,
);

#[cfg(test)]
mod tests {
    use weft_types::codec::{CONTROL_BYTES_MAX, decode, encode};
    use weft_types::{Asker, AuditOutcome, BlockHash, ByteSize, PublicPrefix, Role, TenantSecrets, Tier};

    use serde::de::DeserializeOwned;

    use super::*;

    /// The longest name there is.
    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(number: usize) -> T {
        format!("{number:063}").parse().unwrap()
    }

    #[test]
    fn the_longest_lists_fit_a_message() {
        let settings = TenantSettings {
            quota: Tier::ALL.map(|tier| (tier, ByteSize::from_bytes(u64::MAX))).into(),
            weight: u16::MAX,
            lease_blocks_max: u32::MAX,
            groups: (0..TenantSettings::GROUPS_MAX).map(name).collect(),
        };
        let tenant = |number| TenantStatus {
            tenant: name(number),
            settings: settings.clone(),
            salted: true,
            keys: (0..TenantSecrets::KEYS_MAX).map(name).collect(),
            leases: u32::MAX,
            pinned_blocks: u32::MAX,
        };
        let prefix = PublicPrefix { blocks: u32::MAX, last: BlockHash::ROOT };
        let prefixes = (0..SharingGroup::PREFIXES_MAX).map(|number| (name(number), prefix)).collect();
        let group = SharingGroup { salt: None, prefixes };
        let tenants = TenantsResponse {
            applied: u64::MAX,
            // The directory's ceilings.
            tenants: (0..1_024).map(tenant).collect(),
            groups: (0..256).map(|number| (name(number), group.clone())).collect(),
        };
        let (key, left) = (IndexKey::from_bytes([0; 16]), Duration::MAX);
        let lease = |number| {
            let (lease, tenant) = (LeaseId::new(u64::MAX), name(number));
            LeaseStatus { lease, tenant, first: key, blocks: u32::MAX, left }
        };
        let leases = LeasesResponse { applied: u64::MAX, leases: (0..16_384).map(lease).collect() };
        let text = || "x".repeat(AuditEntry::TEXT_BYTES_MAX);
        let at = LogTime::from_micros(u64::MAX);
        let entry = AuditEntry {
            index: u64::MAX,
            at,
            by: Asker { role: Role::Admin, name: name(0) },
            request: RequestId::new(u64::MAX),
            what: text(),
            outcome: AuditOutcome::Refused(text()),
        };
        let audit = AuditResponse { applied: 0, log_time: at, entries: vec![entry; AuditEntry::KEPT_MAX] };
        let reason = "x".repeat(OperatorAction::REASON_BYTES_MAX);
        let line = RevokedStatus { serial: Serial::from_bytes(&[0xff; 20]).unwrap(), at, reason };
        let revoked = RevokedResponse { applied: 0, log_time: at, revoked: vec![line; 4_096] };
        check(&tenants);
        check(&leases);
        check(&audit);
        check(&revoked);
    }

    fn check<T: Serialize + DeserializeOwned + PartialEq>(longest: &T) {
        let bytes = encode(longest);
        assert!(bytes.len() < CONTROL_BYTES_MAX - 1024, "{} bytes", bytes.len());
        // The codec counts in its own way.
        assert!(decode::<T>(&bytes).unwrap() == *longest);
    }
}
