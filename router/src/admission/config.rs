//! What an operator gives to whom.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weft_policy::{Bounds, Priority, Share};
use weft_service::config::duration;
use weft_types::TenantId;

/// Who is let through to the engines, when more want to than may.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// Requests at engines at a time, by this router; more wait for their turn. Default 0: no bound, and nobody waits. About as many as
    /// all engines together decode well at once.
    pub passing: usize,
    /// Requests that wait; more are answered 429 with `Retry-After`. They count as in flight, and hold their bodies. Default 1024.
    pub waiting: usize,
    /// Longest that a request waits, unless it wants less (`x-weft-deadline-ms`); then it is answered 429. What would wait longer, by the pace of the
    /// last turns, is answered so at once. Default 30 s.
    #[serde(with = "duration")]
    pub wait_within: Duration,
    /// What each tenant is given that `tenants` does not name, and callers without a key.
    pub tenant: TenantShare,
    /// What tenants are given, by name. Default nobody.
    pub tenants: BTreeMap<TenantId, TenantShare>,
}

/// What one tenant is given.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantShare {
    /// Its part of the turns, in prompt tokens, against other tenants that wait. Default 0: what `weft tenant set-weight` gave it, 100 where
    /// metadata knows no such tenant.
    pub weight: f64,
    /// Prompt tokens a second, on average, a token taken as 4 bytes of body; more are answered 429 with `Retry-After`. Default 0: no bound.
    pub tokens_per_second: f64,
    /// Prompt tokens at once after a pause. Default 0: ten seconds' worth.
    pub burst_tokens: f64,
    /// Priority of its requests that say nothing: `low`, `normal` or `high`. A higher one is let through first. Default `normal`.
    pub priority: Priority,
    /// The highest that they may ask for with `x-weft-priority`. Default `normal`.
    pub priority_max: Priority,
}

impl AdmissionConfig {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { passing: self.passing, waiting: self.waiting }
    }

    pub(super) fn share(&self, tenant: Option<&TenantId>) -> &TenantShare {
        tenant.and_then(|tenant| self.tenants.get(tenant)).unwrap_or(&self.tenant)
    }

    /// Names of settings with what they are, each of which must be a number that is not below zero.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.tenants.values().chain([&self.tenant]).flat_map(|share| {
            [
                ("admission.tenant.weight", share.weight),
                ("admission.tenant.tokens_per_second", share.tokens_per_second),
                ("admission.tenant.burst_tokens", share.burst_tokens),
            ]
        })
    }
}

impl TenantShare {
    /// Seconds of its rate that a tenant may have at once, unless it is said.
    const BURST_SECONDS: f64 = 10.0;

    /// `weight`: what metadata gave its tenant.
    pub(super) fn to_policy(self, weight: u16) -> Share {
        let burst_tokens = match self.burst_tokens {
            0.0 => self.tokens_per_second * Self::BURST_SECONDS,
            tokens => tokens,
        };
        let weight = if self.weight > 0.0 { self.weight } else { f64::from(weight.max(1)) };
        Share { weight, tokens_per_second: self.tokens_per_second, burst_tokens }
    }

    pub(super) fn priority(&self, asked: Option<Priority>) -> Priority {
        asked.map_or(self.priority, |asked| asked.min(self.priority_max))
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            passing: 0,
            waiting: 1024,
            wait_within: Duration::from_secs(30),
            tenant: TenantShare::default(),
            tenants: BTreeMap::new(),
        }
    }
}

impl Default for TenantShare {
    fn default() -> Self {
        let (priority, priority_max) = (Priority::Normal, Priority::Normal);
        Self { weight: 0.0, tokens_per_second: 0.0, burst_tokens: 0.0, priority, priority_max }
    }
}
