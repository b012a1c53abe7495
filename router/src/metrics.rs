//! What the router counts.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};
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
        let all: [Box<dyn Collector>; 12] = [
            Box::new(hit_error.clone()),
            Box::new(ttft_error.clone()),
            Box::new(token_mismatches.clone()),
            Box::new(requests.clone()),
            Box::new(tenants.requests.clone()),
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
                counted_max: counted_tenants,
                counted: Mutex::default(),
            },
            decision: seconds(
                "weft_router_decision_seconds",
                "From a whole request to the endpoint picked: template, tokens, hashes, lookup, cost.",
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
        if self.tenants.counted_max > 0 {
            self.tenants.count(caller.tenant.as_ref());
        }
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
        self.endpoints(0, 0);
    }
}

/// Requests by tenant, for those that are counted by name. A name has no parentheses, so that the two other labels are nobody's.
#[derive(Debug)]
struct Tenants {
    requests: IntCounterVec,
    counted_max: usize,
    counted: Mutex<BTreeSet<TenantId>>,
}

impl Tenants {
    const KEYLESS: &str = "(none)";
    const OTHERS: &str = "(others)";

    fn count(&self, tenant: Option<&TenantId>) {
        let label = match tenant {
            None => Self::KEYLESS,
            Some(tenant) if self.has_label(tenant) => tenant.name().as_str(),
            Some(_) => Self::OTHERS,
        };
        self.requests.with_label_values(&[label]).inc();
    }

    fn has_label(&self, tenant: &TenantId) -> bool {
        let mut counted = self.counted.lock();
        counted.contains(tenant) || counted.len() < self.counted_max && counted.insert(tenant.clone())
    }
}
