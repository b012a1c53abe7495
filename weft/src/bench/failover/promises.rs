//! What the group acknowledged to operators, and what a member lacks of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weft_metadata_proto::v1::{LeasesResponse, TenantsResponse};
use weft_types::{LeaseId, TenantId, TenantSettings};

/// Acknowledged, and the latest of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    pub(crate) tenants: BTreeMap<TenantId, TenantSettings>,
    /// With how many blocks each pins.
    pub(crate) leases: BTreeMap<LeaseId, (TenantId, u32)>,
    pub(crate) released: BTreeSet<LeaseId>,
}

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) tenants: u64,
    /// Tenants with other settings than the last acknowledged.
    pub(crate) quotas: u64,
    /// Gone, or not as granted.
    pub(crate) leases: u64,
    /// Still there, though their release was acknowledged.
    pub(crate) releases: u64,
    /// There, and never acknowledged to anybody: every request was answered in the end, so these were granted twice.
    pub(crate) unasked: u64,
}

impl Promises {
    /// Those of another client, about other tenants.
    pub(crate) fn join(&mut self, other: Self) {
        self.tenants.extend(other.tenants);
        self.leases.extend(other.leases);
        self.released.extend(other.released);
    }

    /// What is lacking in a member's lists.
    pub(crate) fn lost(&self, tenants: &TenantsResponse, leases: &LeasesResponse) -> Lost {
        let mut lost = Lost::default();
        for (id, settings) in &self.tenants {
            match tenants.tenants.iter().find(|status| status.tenant == *id) {
                None => lost.tenants += 1,
                Some(status) if status.settings != *settings => lost.quotas += 1,
                Some(_) => {}
            }
        }
        let listed: BTreeMap<_, _> =
            leases.leases.iter().map(|status| (status.lease, (status.tenant.clone(), status.blocks))).collect();
        for (id, lease) in &self.leases {
            lost.leases += u64::from(listed.get(id) != Some(lease));
        }
        for id in listed.keys().filter(|id| !self.leases.contains_key(id)) {
            match self.released.contains(id) {
                true => lost.releases += 1,
                false => lost.unasked += 1,
            }
        }
        lost
    }
}

impl Lost {
    /// The larger of each.
    pub(crate) fn worst(self, other: Self) -> Self {
        Self {
            tenants: self.tenants.max(other.tenants),
            quotas: self.quotas.max(other.quotas),
            leases: self.leases.max(other.leases),
            releases: self.releases.max(other.releases),
            unasked: self.unasked.max(other.unasked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_metadata_proto::v1::{LeaseStatus, TenantStatus};
    use weft_types::IndexKey;

    use super::*;

    fn settings(weight: u16) -> TenantSettings {
        TenantSettings { weight, ..TenantSettings::default() }
    }

    fn tenants(listed: &[(&str, u16)]) -> TenantsResponse {
        let status = |(name, weight): &(&str, u16)| TenantStatus {
            tenant: name.parse().unwrap(),
            settings: settings(*weight),
            salted: true,
            keys: vec![],
            leases: 0,
            pinned_blocks: 0,
        };
        TenantsResponse { applied: 0, tenants: listed.iter().map(status).collect(), groups: BTreeMap::new() }
    }

    fn leases(listed: &[u64]) -> LeasesResponse {
        let status = |lease: &u64| LeaseStatus {
            lease: LeaseId::new(*lease),
            tenant: "a".parse().unwrap(),
            first: IndexKey::from_bytes([0; 16]),
            blocks: 4,
            left: Duration::ZERO,
        };
        LeasesResponse { applied: 0, leases: listed.iter().map(status).collect() }
    }

    #[test]
    fn what_was_promised_is_told_from_what_is_there() {
        let name = |name: &str| -> TenantId { name.parse().unwrap() };
        let promises = Promises {
            tenants: [(name("a"), settings(1)), (name("b"), settings(2))].into(),
            leases: [(LeaseId::new(1), (name("a"), 4)), (LeaseId::new(2), (name("a"), 4))].into(),
            released: [LeaseId::new(3)].into(),
        };
        let kept = promises.lost(&tenants(&[("a", 1), ("b", 2)]), &leases(&[1, 2]));
        assert_eq!(kept, Lost::default());
        let lost = promises.lost(&tenants(&[("a", 9)]), &leases(&[1, 3, 4]));
        assert_eq!(lost, Lost { tenants: 1, quotas: 1, leases: 1, releases: 1, unasked: 1 });
        assert_eq!(kept.worst(lost), lost);
    }
}
