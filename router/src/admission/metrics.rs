//! What is counted at the door.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};
use weft_policy::Why;

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) waiting: IntGauge,
    pub(super) waited: Histogram,
    refused: IntCounterVec,
}

impl Metrics {
    /// Registers the family `weft_router_admission_*`.
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self::new().expect("constant names and buckets are valid");
        for why in [Why::Full, Why::Rate, Why::Deadline] {
            metrics.refused.with_label_values(&[name(why)]);
        }
        let all: [Box<dyn Collector>; 3] =
            [Box::new(metrics.waiting.clone()), Box::new(metrics.waited.clone()), Box::new(metrics.refused.clone())];
        for collector in all {
            registry.register(collector).expect("a process registers its router once");
        }
        metrics
    }

    fn new() -> Result<Self, prometheus::Error> {
        let waited = HistogramOpts::new(
            "weft_router_admission_wait_seconds",
            "Time that requests waited to be let through to an engine; those that went at once are left out.",
        );
        Ok(Self {
            waiting: IntGauge::new(
                "weft_router_admission_waiting_requests",
                "Requests that wait to be let through to an engine.",
            )?,
            waited: Histogram::with_opts(waited.buckets(exponential_buckets(0.001, 2.0, 16)?))?,
            refused: IntCounterVec::new(
                Opts::new(
                    "weft_router_admission_refused_total",
                    "Requests that were not let through, by the bound they met.",
                ),
                &["why"],
            )?,
        })
    }

    pub(super) fn refused(&self, why: Why) {
        self.refused.with_label_values(&[name(why)]).inc();
    }
}

fn name(why: Why) -> &'static str {
    match why {
        Why::Full => "full",
        Why::Rate => "rate",
        Why::Deadline => "deadline",
    }
}
