//! When a lease is granted, its tenant is there, and the distinct blocks of all the tenant's leases are within its budget as it
//! is then; and a number is one lease's for ever.

use std::collections::{BTreeMap, BTreeSet};

use weft_index::DirectoryChange;
use weft_metadata::testing::Seen;
use weft_types::{Lease, LeaseId, TenantId};

pub(crate) const NAME: &str = "a budget is never exceeded";

/// Budgets and leases as the log made them, entry by entry.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    budgets: BTreeMap<TenantId, u32>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Highest number granted.
    last: Option<LeaseId>,
    /// Index up to which that is known.
    known: u64,
}

impl Budgets {
    /// The first member that applies an entry tells; the others apply the same.
    pub(crate) fn applied(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        if seen.index <= self.known {
            return Ok(());
        }
        self.known = seen.index;
        for change in seen.applied.iter().flat_map(|applied| &applied.changes) {
            match change {
                DirectoryChange::Tenant(id, Some(tenant)) => {
                    self.budgets.insert(id.clone(), tenant.settings.lease_blocks_max);
                }
                DirectoryChange::Tenant(id, None) => _ = self.budgets.remove(id),
                DirectoryChange::Lease(id, Some(lease)) => self.put(seen.index, *id, lease)?,
                DirectoryChange::Lease(id, None) => _ = self.leases.remove(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, index: u64, id: LeaseId, lease: &Lease) -> Result<(), String> {
        let tenant = lease.tenant.clone();
        if self.leases.insert(id, lease.clone()).is_some() {
            return Ok(());
        }
        if self.last.replace(id) >= Some(id) {
            return Err(format!("entry {index} grants lease {id}, after {:?}", self.last));
        }
        let Some(budget) = self.budgets.get(&tenant) else {
            return Err(format!("entry {index} grants lease {id} to {tenant}, which is not there"));
        };
        let its = self.leases.values().filter(|lease| lease.tenant == tenant);
        let pinned: BTreeSet<_> = its.flat_map(|lease| lease.prefix.iter()).collect();
        match pinned.len() <= *budget as usize {
            true => Ok(()),
            false => Err(format!("after entry {index} {tenant} has {} blocks pinned of {budget}", pinned.len())),
        }
    }
}
