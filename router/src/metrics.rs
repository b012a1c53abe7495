//! What the router counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};
use serde::Serialize;
use weft_policy::Terms;
use weft_types::TenantId;

use crate::callers::Caller;
use crate::usage::Usage;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// An engine's answer, whatever its status, went through whole.
    Answered,
    /// Refused: the fault is the client's.
    BadRequest,
    /// Refused: nobody known sent it.
    Unauthorized,
    /// Refused: too many requests, or nobody to send it to.
    Refused,
    /// No endpoint answered.
    Failed,
    /// The engine died in the middle of its answer.
    Broken,
    /// The client left.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Answered,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Refused,
        Self::Failed,
        Self::Broken,
        Self::Cancelled,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where matched tokens were expected to come from.
const SOURCES: [&str; 3] = ["device", "local", "peer"];

/// Counters of a router.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    tenants: Tenants,
    decision: Histogram,
    ttft: Histogram,
    hit_error: Histogram,
    ttft_error: Histogram,
    token_mismatches: IntCounter,
    prompt_tokens: IntCounter,
    matched_tokens: IntCounterVec,
    pub(crate) retries: IntCounter,
    pub(crate) in_flight: IntGauge,
    endpoints: IntGaugeVec,
}

impl Metrics {
    /// Registers the family `weft_router_*`.
    ///
    /// # Panics
    /// If the registry has it already: a process routes once.
    pub(crate) fn register(registry: &Registry, counted_tenants: usize) -> Self {
        let metrics = Self::new(counted_tenants).expect("constant names and buckets are valid");
        metrics.show_zeros();
        let Self {
            requests,
            tenants,
            decision,
            ttft,
            prompt_tokens,
            matched_tokens,
            retries,
            in_flight,
            endpoints,
            hit_error,
            ttft_error,
            token_mismatches,
        } = &metrics;
        let all: [Box<dyn Collector>; 14] = [
            Box::new(hit_error.clone()),
            Box::new(ttft_error.clone()),
            Box::new(token_mismatches.clone()),
            Box::new(requests.clone()),
            Box::new(tenants.requests.clone()),
            Box::new(tenants.loaded_tokens.clone()),
            Box::new(tenants.saved_seconds.clone()),
            Box::new(decision.clone()),
            Box::new(ttft.clone()),
            Box::new(prompt_tokens.clone()),
            Box::new(matched_tokens.clone()),
            Box::new(retries.clone()),
            Box::new(in_flight.clone()),
            Box::new(endpoints.clone()),
        ];
        for collector in all {
            registry.register(collector).expect("a process registers its router once");
        }
        metrics
    }

    fn new(counted_tenants: usize) -> Result<Self, prometheus::Error> {
        let seconds = |name, help, from| {
            let buckets = exponential_buckets(from, 2.0, 18)?;
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        // As wide below zero as above it, from `least` in steps of four.
        let signed = |name, help, least| {
            let above = exponential_buckets(least, 4.0, 8)?;
            let below = above.iter().rev().map(|bound| -bound);
            Histogram::with_opts(
                HistogramOpts::new(name, help).buckets(below.chain([0.0]).chain(above.clone()).collect()),
            )
        };
        let labelled = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            requests: labelled("weft_router_requests_total", "Requests, by how they ended.", "outcome")?,
            tenants: Tenants {
                requests: labelled("weft_router_tenant_requests_total", "Requests, by tenant.", "tenant")?,
                loaded_tokens: labelled(
                    "weft_router_tenant_loaded_tokens_total",
                    "Tokens of prompts that were loaded from a node's tiers and not computed, by the engine's own account.",
                    "tenant",
                )?,
                saved_seconds: CounterVec::new(
                    Opts::new(
                        "weft_router_tenant_saved_prefill_seconds_total",
                        "What computing the loaded tokens would have kept their engines busy for, at the prefill rates learnt.",
                    ),
                    &["tenant"],
                )?,
                counted_max: counted_tenants,
                counted: Mutex::default(),
            },
            decision: seconds(
                "weft_router_decision_seconds",
                "From a whole request that waits no longer to the endpoint picked: template, tokens, hashes, lookup, cost.",
                20e-6,
            )?,
            ttft: seconds(
                "weft_router_ttft_seconds",
                "From a whole request to the first byte of a streamed answer.",
                1e-3,
            )?,
            hit_error: signed(
                "weft_router_hit_error_tokens",
                "Tokens expected not to be computed, less those that the engine says it did not compute.",
                64.0,
            )?,
            ttft_error: signed(
                "weft_router_ttft_error_seconds",
                "Predicted time to first token, less the time that it took.",
                1e-3,
            )?,
            token_mismatches: IntCounter::new(
                "weft_router_token_mismatches_total",
                "Prompts that the engine counts another number of tokens in than the router.",
            )?,
            prompt_tokens: IntCounter::new("weft_router_prompt_tokens_total", "Tokens of prompts routed.")?,
            matched_tokens: labelled(
                "weft_router_matched_tokens_total",
                "Tokens of prompts expected not to be computed, by source.",
                "source",
            )?,
            retries: IntCounter::new("weft_router_retries_total", "Requests tried at a second endpoint.")?,
            in_flight: IntGauge::new("weft_router_in_flight_requests", "Requests in flight.")?,
            endpoints: IntGaugeVec::new(
                Opts::new("weft_router_endpoints", "Endpoints known, by whether they are sent requests."),
                &["state"],
            )?,
        })
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.requests.with_label_values(&[outcome.as_str()]).inc();
    }

    /// A request of somebody known came.
    pub(crate) fn called(&self, caller: &Caller) {
        self.tenants.count(caller.tenant.as_ref());
    }

    /// So many tokens of a tenant's prompt were loaded, which would have taken so long to compute.
    pub(crate) fn saved(&self, tenant: Option<&TenantId>, loaded_tokens: u32, seconds: f64) {
        self.tenants.save(tenant, loaded_tokens, seconds);
    }

    /// Tenants that are counted by name, and the two others, with what was counted.
    pub(crate) fn by_tenant(&self) -> Vec<TenantCounts> {
        let named = self.tenants.counted.lock().clone();
        let labels = named.iter().map(|tenant| tenant.name().as_str()).chain([Tenants::KEYLESS, Tenants::OTHERS]);
        labels.map(|label| self.tenants.counts(label)).collect()
    }

    /// Tokens of prompts, and of those the ones expected not to be computed, by source.
    pub(crate) fn matched(&self) -> (u64, BTreeMap<&'static str, u64>) {
        let by_source = SOURCES.map(|source| (source, self.matched_tokens.with_label_values(&[source]).get()));
        (self.prompt_tokens.get(), by_source.into())
    }

    /// Requests by how they ended.
    pub(crate) fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        let count = |outcome: Outcome| (outcome.as_str(), self.requests.with_label_values(&[outcome.as_str()]).get());
        Outcome::ALL.map(count).into()
    }

    /// A request was routed, so long after it had arrived.
    pub(crate) fn decided(&self, took: Duration, tokens: u32, terms: &Terms) {
        self.decision.observe(took.as_secs_f64());
        self.prompt_tokens.inc_by(u64::from(tokens));
        let device = tokens.saturating_sub(terms.computed_tokens + terms.local_tokens + terms.peer_tokens);
        for (source, tokens) in SOURCES.iter().zip([device, terms.local_tokens, terms.peer_tokens]) {
            self.matched_tokens.with_label_values(&[*source]).inc_by(u64::from(tokens));
        }
    }

    pub(crate) fn first_byte(&self, took: Duration) {
        self.ttft.observe(took.as_secs_f64());
    }

    /// A streamed answer began so much sooner than predicted, or later where it is less than zero.
    pub(crate) fn ttft_error(&self, seconds: f64) {
        self.ttft_error.observe(seconds);
    }

    /// An engine told what it made of a prompt that was predicted.
    pub(crate) fn used(&self, tokens: u32, hit_tokens: u32, usage: &Usage) {
        if usage.prompt_tokens != tokens {
            self.token_mismatches.inc();
        }
        if let Some(cached) = usage.cached_tokens {
            self.hit_error.observe(f64::from(hit_tokens) - f64::from(cached));
        }
    }

    pub(crate) fn endpoints(&self, healthy: usize, out: usize) {
        for (state, count) in [("healthy", healthy), ("out", out)] {
            self.endpoints.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A counter that appears with its first increment has lost that increment to any `rate()`.
    fn show_zeros(&self) {
        for outcome in Outcome::ALL {
            self.requests.with_label_values(&[outcome.as_str()]).inc_by(0);
        }
        for source in SOURCES {
            self.matched_tokens.with_label_values(&[source]).inc_by(0);
        }
        for label in [Tenants::KEYLESS, Tenants::OTHERS] {
            self.tenants.counts(label);
        }
        self.endpoints(0, 0);
    }
}

/// What is counted by tenant, for those that are counted by name. A name has no parentheses, so that the two other labels are nobody's.
#[derive(Debug)]
struct Tenants {
    requests: IntCounterVec,
    loaded_tokens: IntCounterVec,
    saved_seconds: CounterVec,
    counted_max: usize,
    counted: Mutex<BTreeSet<TenantId>>,
}

/// One tenant's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct TenantCounts {
    /// Its name, or who is meant.
    pub(crate) tenant: String,
    /// Requests that came.
    pub(crate) requests: u64,
    /// Tokens that were loaded and not computed.
    pub(crate) loaded_tokens: u64,
    /// What computing them would have taken.
    pub(crate) saved_seconds: f64,
}

impl Tenants {
    const KEYLESS: &str = "(none)";
    const OTHERS: &str = "(others)";

    fn count(&self, tenant: Option<&TenantId>) {
        self.requests.with_label_values(&[self.label(tenant)]).inc();
    }

    fn save(&self, tenant: Option<&TenantId>, loaded_tokens: u32, seconds: f64) {
        let label = self.label(tenant);
        self.loaded_tokens.with_label_values(&[label]).inc_by(u64::from(loaded_tokens));
        self.saved_seconds.with_label_values(&[label]).inc_by(seconds.max(0.0));
    }

    fn counts(&self, label: &str) -> TenantCounts {
        TenantCounts {
            tenant: label.to_owned(),
            requests: self.requests.with_label_values(&[label]).get(),
            loaded_tokens: self.loaded_tokens.with_label_values(&[label]).get(),
            saved_seconds: self.saved_seconds.with_label_values(&[label]).get(),
        }
    }

    fn label<'t>(&self, tenant: Option<&'t TenantId>) -> &'t str {
        match tenant {
            None => Self::KEYLESS,
            Some(tenant) if self.has_label(tenant) => tenant.name().as_str(),
            Some(_) => Self::OTHERS,
        }
    }

    fn has_label(&self, tenant: &TenantId) -> bool {
        let mut counted = self.counted.lock();
        counted.contains(tenant) || counted.len() < self.counted_max && counted.insert(tenant.clone())
    }
}
