//! What is agreed beside who holds what: tenants, leases, the deny list, and what operators asked for.

mod audit;
mod leases;
mod records;
mod revoked;
mod tenants;

pub(crate) use self::audit::Audit;
pub use self::leases::Leases;
pub(crate) use self::leases::check_ttl;
pub use self::revoked::Revocation;
pub(crate) use self::revoked::Revoked;
pub use self::tenants::Tenants;

use std::collections::BTreeMap;

use weft_index::DirectoryChange;
use weft_types::{AuditEntry, Serial};

/// All of it. Clone copies no keys of leases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    pub(crate) tenants: Tenants,
    pub(crate) leases: Leases,
    pub(crate) revoked: Revoked,
    pub(crate) audit: Audit,
}

impl Accounts {
    /// Tenants and sharing groups.
    #[must_use]
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Leases that have not ended.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The deny list.
    #[must_use]
    pub fn revoked(&self) -> &BTreeMap<Serial, Revocation> {
        self.revoked.all()
    }

    /// What operators asked for, oldest first: the last [`AuditEntry::KEPT_MAX`] requests.
    pub fn audit(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> + ExactSizeIterator {
        self.audit.entries()
    }

    /// All of it but the audit, as a follower that knows nothing is told.
    pub fn as_changes(&self) -> impl Iterator<Item = DirectoryChange> {
        let groups =
            self.tenants.groups().iter().map(|(id, group)| DirectoryChange::Group(id.clone(), Some(group.clone())));
        let tenants =
            self.tenants.all().iter().map(|(id, tenant)| DirectoryChange::Tenant(id.clone(), Some(tenant.clone())));
        let leases = self.leases.all().iter().map(|(id, lease)| DirectoryChange::Lease(*id, Some(lease.clone())));
        let revoked = self.revoked.all().keys().map(|serial| DirectoryChange::Revoked(serial.clone(), true));
        groups.chain(tenants).chain(leases).chain(revoked)
    }
}
