//! How many requests one tenant may have in the router at a time: nobody's burst keeps the others out.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_types::TenantId;

use crate::callers::Caller;

/// Requests in flight, by tenant; callers without a key are one.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Zero: no bound.
    per_tenant_max: usize,
    /// Of those that have any.
    in_flight: Mutex<HashMap<Option<TenantId>, usize>>,
}

/// A request that was let in. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Admitted {
    bound: Arc<InFlight>,
    tenant: Option<TenantId>,
}

impl InFlight {
    pub(super) fn new(per_tenant_max: usize) -> Self {
        Self { per_tenant_max, in_flight: Mutex::default() }
    }

    /// Lets a request in; or says how many of its tenant are in already.
    pub(super) fn admit(self: &Arc<Self>, caller: &Caller) -> Result<Option<Admitted>, usize> {
        if self.per_tenant_max == 0 {
            return Ok(None);
        }
        let mut in_flight = self.in_flight.lock();
        let count = in_flight.entry(caller.tenant.clone()).or_default();
        if *count >= self.per_tenant_max {
            return Err(*count);
        }
        *count += 1;
        Ok(Some(Admitted { bound: Arc::clone(self), tenant: caller.tenant.clone() }))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut in_flight = self.bound.in_flight.lock();
        if let Some(count) = in_flight.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.tenant);
            }
        }
    }
}
