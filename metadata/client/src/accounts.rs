//! A follower's copy of what is agreed beside who holds what.

use std::collections::{BTreeMap, BTreeSet};

use weft_index::DirectoryChange;
use weft_types::{GroupId, Lease, LeaseId, Serial, SharingGroup, Tenant, TenantId};

/// Tenants, sharing groups, leases and the deny list, as of one log index. Secrets are in it for routers only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// By name.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// By name.
    pub groups: BTreeMap<GroupId, SharingGroup>,
    /// By number.
    pub leases: BTreeMap<LeaseId, Lease>,
    /// Certificates that are not to be trusted.
    pub revoked: BTreeSet<Serial>,
}

impl Accounts {
    /// Whether a change is about them.
    pub(crate) fn are_changed_by(change: &DirectoryChange) -> bool {
        matches!(
            change,
            DirectoryChange::Tenant(..)
                | DirectoryChange::Group(..)
                | DirectoryChange::Lease(..)
                | DirectoryChange::Revoked(..)
        )
    }

    /// Applies one; any other is none of theirs.
    pub(crate) fn change(&mut self, change: DirectoryChange) {
        match change {
            DirectoryChange::Tenant(id, tenant) => put(&mut self.tenants, id, tenant),
            DirectoryChange::Group(id, group) => put(&mut self.groups, id, group),
            DirectoryChange::Lease(id, lease) => put(&mut self.leases, id, lease),
            DirectoryChange::Revoked(serial, true) => _ = self.revoked.insert(serial),
            DirectoryChange::Revoked(serial, false) => _ = self.revoked.remove(&serial),
            _ => {}
        }
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => _ = map.insert(key, value),
        None => _ = map.remove(&key),
    }
}
