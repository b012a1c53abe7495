//! Metrics of an engine: vLLM's names, so that dashboards and routers made for vLLM read the simulated engine too, and a
//! few of our own for what only it can tell.

use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::usage::{Source, Usage};

/// Upper bounds of time histograms in seconds, as vLLM's for time to first token.
const SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

/// Counters of one engine.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) running: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) kv_usage: Gauge,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    external_queries: IntCounter,
    external_hits: IntCounter,
    prompt_tokens: IntCounter,
    pub(crate) generation_tokens: IntCounter,
    finished: IntCounterVec,
    time_to_first_token: Histogram,
    request_latency: Histogram,
    pub(crate) verified_bytes: IntCounter,
    pub(crate) mismatched_blocks: IntCounter,
    pub(crate) skipped_stores: IntCounter,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It reached its natural end.
    Stop,
    /// It reached `max_tokens`.
    Length,
    /// The client went away.
    Abort,
}

impl Finish {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
        }
    }
}

impl Metrics {
    /// Makes and registers the families.
    pub(crate) fn register(registry: &Registry, model: &str) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("model_name", model);
        let counter = |name, help| add(registry, IntCounter::with_opts(opts(name, help))?);
        let gauge = |name, help| add(registry, IntGauge::with_opts(opts(name, help))?);
        let seconds = |name: &str, help: &str| {
            let opts = HistogramOpts { common_opts: opts(name, help), buckets: SECONDS.to_vec() };
            add(registry, Histogram::with_opts(opts)?)
        };
        let finished = opts("vllm:request_success_total", "Requests that ended, by reason.");
        let usage = opts("vllm:kv_cache_usage_perc", "Share of device blocks in use, 0 to 1.");
        Ok(Self {
            running: gauge("vllm:num_requests_running", "Requests in prefill or decode.")?,
            waiting: gauge("vllm:num_requests_waiting", "Requests that wait for prefill.")?,
            kv_usage: add(registry, Gauge::with_opts(usage)?)?,
            prefix_queries: counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up on the device.")?,
            prefix_hits: counter("vllm:prefix_cache_hits_total", "Prompt tokens found on the device.")?,
            external_queries: counter("vllm:external_prefix_cache_queries_total", "Prompt tokens asked of the node.")?,
            external_hits: counter("vllm:external_prefix_cache_hits_total", "Prompt tokens loaded through the node.")?,
            prompt_tokens: counter("vllm:prompt_tokens_total", "Prompt tokens of requests that got a first token.")?,
            generation_tokens: counter("vllm:generation_tokens_total", "Tokens generated.")?,
            finished: add(registry, IntCounterVec::new(finished, &["finished_reason"])?)?,
            time_to_first_token: seconds("vllm:time_to_first_token_seconds", "Arrival to first token.")?,
            request_latency: seconds("vllm:e2e_request_latency_seconds", "Arrival to last token.")?,
            verified_bytes: counter(
                "weft_engine_verified_bytes_total",
                "KV bytes loaded and found equal to what belongs there.",
            )?,
            mismatched_blocks: counter(
                "weft_engine_mismatched_blocks_total",
                "Loaded blocks with wrong bytes: must stay 0.",
            )?,
            skipped_stores: counter(
                "weft_engine_skipped_stores_blocks_total",
                "Blocks not stored since the store queue was full.",
            )?,
        })
    }

    /// A prefill is done.
    pub(crate) fn first_token(&self, usage: &Usage, after_seconds: f64) {
        let device = usage.tokens(Source::Device);
        self.prefix_queries.inc_by(usage.prompt_tokens);
        self.prefix_hits.inc_by(device);
        self.external_queries.inc_by(usage.prompt_tokens - device);
        self.external_hits.inc_by(usage.cached_tokens() - device);
        self.prompt_tokens.inc_by(usage.prompt_tokens);
        self.time_to_first_token.observe(after_seconds);
    }

    /// A request ended.
    pub(crate) fn finished(&self, finish: Finish, after_seconds: f64) {
        self.finished.with_label_values(&[finish.as_str()]).inc();
        self.request_latency.observe(after_seconds);
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
