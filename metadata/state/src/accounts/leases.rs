//! Leases: granted within a tenant's budget, renewed, released, and ended when their time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weft_index::DirectoryChange;
use weft_types::{IndexKey, Lease, LeaseId, LogTime, TenantId};

use crate::Limits;

/// Shortest lease: ends are looked for ten times a second.
const TTL_MIN: Duration = Duration::from_secs(1);

/// Longest lease, so that what everybody forgot comes free. One that is wanted for longer is renewed.
const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Blocks of the leases that end in one command: some 10 ms of apply. One lease may have as many.
const EXPIRE_BLOCKS_MAX: usize = Lease::BLOCKS_MAX;

/// All leases that have not ended.
///
/// # Invariants
/// - a tenant's leases pin at most as many distinct blocks as its budget was when the last of them was granted;
/// - numbers are never used again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    /// Number of the last lease granted.
    last: u64,
    /// By end.
    due: BTreeSet<(LogTime, LeaseId)>,
    /// Distinct blocks by tenant, and how many of its leases pin each. Shared with clones until changed.
    pinned: BTreeMap<TenantId, Arc<BTreeMap<IndexKey, u32>>>,
    /// Blocks of all leases, each counted once a lease.
    blocks: u64,
}

impl Leases {
    /// By number.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<LeaseId, Lease> {
        &self.leases
    }

    /// Distinct blocks that a tenant's leases pin.
    #[must_use]
    pub fn pinned_by(&self, tenant: &TenantId) -> usize {
        self.pinned.get(tenant).map_or(0, |pinned| pinned.len())
    }

    /// Blocks of all leases, each counted once a lease.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// When the next lease ends, unless it is renewed.
    #[must_use]
    pub fn next_end(&self) -> Option<LogTime> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Number of the last lease granted.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// `budget`: distinct blocks that the tenant may pin.
    pub(crate) fn grant(&mut self, lease: Lease, budget: u32, limits: &Limits) -> Result<(LeaseId, &Lease), String> {
        let (tenant, asked) = (&lease.tenant, lease.prefix.len());
        if !(1..=Lease::BLOCKS_MAX).contains(&asked) {
            return Err(format!("a lease on {asked} blocks: expected 1 to {}", Lease::BLOCKS_MAX));
        }
        if self.leases.len() >= limits.leases as usize {
            return Err(format!("{} leases are granted, and no more may be: release some", limits.leases));
        }
        let blocks = self.blocks + asked as u64;
        if blocks > limits.leased_blocks {
            return Err(format!(
                "{asked} blocks asked, {} of at most {} are leased by all tenants: release some",
                self.blocks, limits.leased_blocks,
            ));
        }
        let pinned = self.pinned.get(tenant);
        let known = |key: &&IndexKey| pinned.is_some_and(|pinned| pinned.contains_key(key));
        let new = lease.prefix.iter().filter(|key| !known(key)).collect::<BTreeSet<_>>().len();
        let already = self.pinned_by(tenant);
        if already + new > budget as usize {
            return Err(format!(
                "{asked} blocks asked, {new} of them not pinned yet; tenant {tenant} has {already} of at most {budget} pinned: \
                 release some, or raise its budget with `weft tenant set-lease-blocks`",
            ));
        }
        self.last += 1;
        let id = LeaseId::new(self.last);
        self.add(id, lease);
        Ok((id, &self.leases[&id]))
    }

    /// To `ttl` from `now`, unless it lasts longer already.
    pub(crate) fn renew(&mut self, id: LeaseId, now: LogTime, ttl: Duration) -> Result<&Lease, String> {
        let lease = self.leases.get_mut(&id).ok_or_else(|| unknown(id))?;
        let until = lease.until.max(now.after(ttl));
        self.due.remove(&(lease.until, id));
        self.due.insert((until, id));
        lease.until = until;
        Ok(lease)
    }

    pub(crate) fn release(&mut self, id: LeaseId) -> Result<(), String> {
        self.remove(id).map(|_| ()).ok_or_else(|| unknown(id))
    }

    /// Ends what is due, the first to end first, up to a bound.
    pub(crate) fn expire(&mut self, now: LogTime, changes: &mut Vec<DirectoryChange>) {
        let mut blocks = 0;
        while let Some((_, id)) = self.due.first().copied().filter(|(until, _)| *until <= now)
            && blocks < EXPIRE_BLOCKS_MAX
        {
            blocks += self.remove(id).map_or(0, |lease| lease.prefix.len());
            changes.push(DirectoryChange::Lease(id, None));
        }
    }

    /// Ends all of a tenant that is gone.
    pub(crate) fn release_all(&mut self, tenant: &TenantId, changes: &mut Vec<DirectoryChange>) {
        let its: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.tenant == *tenant).map(|(id, _)| *id).collect();
        for id in its {
            self.remove(id);
            changes.push(DirectoryChange::Lease(id, None));
        }
    }

    /// From a snapshot, in order of numbers. `false`: out of order.
    pub(super) fn restore(&mut self, id: LeaseId, lease: Lease) -> bool {
        if self.last >= id.get() {
            return false;
        }
        self.last = id.get();
        self.add(id, lease);
        true
    }

    /// From a snapshot, after the leases. `false`: it is before one of them.
    pub(super) fn restore_last(&mut self, last: u64) -> bool {
        let sound = last >= self.last;
        self.last = last;
        sound
    }

    fn add(&mut self, id: LeaseId, lease: Lease) {
        let pinned = Arc::make_mut(self.pinned.entry(lease.tenant.clone()).or_default());
        for key in lease.prefix.iter() {
            *pinned.entry(*key).or_default() += 1;
        }
        self.blocks += lease.prefix.len() as u64;
        self.due.insert((lease.until, id));
        self.leases.insert(id, lease);
    }

    fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.due.remove(&(lease.until, id));
        self.blocks -= lease.prefix.len() as u64;
        let pinned = Arc::make_mut(self.pinned.get_mut(&lease.tenant).expect("a tenant with a lease pins something"));
        for key in lease.prefix.iter() {
            let count = pinned.get_mut(key).expect("every block of a lease is counted");
            *count -= 1;
            if *count == 0 {
                pinned.remove(key);
            }
        }
        if pinned.is_empty() {
            self.pinned.remove(&lease.tenant);
        }
        Some(lease)
    }
}

/// What is wrong with a time to live.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), String> {
    match (TTL_MIN..=TTL_MAX).contains(&ttl) {
        true => Ok(()),
        false => Err(format!("a lease for {ttl:?}: expected 1 second to 30 days")),
    }
}

fn unknown(id: LeaseId) -> String {
    format!("no lease {id}: it has ended, or never was")
}
