//! The last requests: what came of them, beside what would have without the nodes' tiers.

use serde_json::{Value, json};
use weft_types::EndpointId;

use super::tree::{Branch, Prompt, grow};
use crate::explain::{Entry, Record};

/// Requests that are looked back at.
pub(super) const DECISIONS_MAX: usize = 512;
/// Of which so many are listed.
const LISTED_MAX: usize = 100;

/// Tokens a second that an endpoint is known to compute.
type Prefill<'a> = &'a dyn Fn(&EndpointId) -> Option<f64>;

/// Of the newest first.
pub(super) fn describe(records: &[Entry], prefill: Prefill<'_>) -> Value {
    let mut sums = Sums::default();
    let decisions: Vec<Value> = records.iter().map(|record| sums.add(&record.lock(), prefill)).collect();
    json!({
        "count": records.len(),
        "prompt_tokens": sums.prompt_tokens,
        "hit_tokens": sums.hit_tokens,
        "loaded_tokens": sums.loaded_tokens,
        "ttft_seconds": quantiles(&mut sums.ttft),
        "ttft_seconds_without": quantiles(&mut sums.ttft_without),
        "decisions": &decisions[..decisions.len().min(LISTED_MAX)],
    })
}

/// The prefixes that they share.
pub(super) fn prefixes(records: &[Entry]) -> Vec<Branch> {
    // Copied, so that no request waits for a tree.
    let copies: Vec<_> = records
        .iter()
        .map(|record| record.lock())
        .map(|record| (record.model.clone(), tenant(&record), record.prints.clone()))
        .collect();
    let prompt = |(model, tenant, prints)| Prompt { group: (model, tenant), chunks: prints };
    grow(
        copies
            .iter()
            .map(|(model, tenant, prints)| prompt((model.as_str(), tenant.as_str(), prints.chunks())))
            .collect(),
    )
}

fn tenant(record: &Record) -> String {
    record.tenant.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[derive(Default)]
struct Sums {
    /// Of requests whose engine says what it did not compute.
    prompt_tokens: u64,
    hit_tokens: u64,
    loaded_tokens: u64,
    ttft: Vec<f64>,
    ttft_without: Vec<f64>,
}

impl Sums {
    fn add(&mut self, record: &Record, prefill: Prefill<'_>) -> Value {
        let hit_tokens = record.usage.and_then(|usage| usage.cached_tokens);
        let loaded_tokens = record.loaded_tokens();
        if let (Some(usage), Some(hit_tokens)) = (record.usage, hit_tokens) {
            self.prompt_tokens += u64::from(usage.prompt_tokens);
            self.hit_tokens += u64::from(hit_tokens);
            self.loaded_tokens += u64::from(loaded_tokens);
        }
        let ttft = record.ttft.map(|took| took.as_secs_f64());
        let picked = record.attempts.last().map(|attempt| &attempt.picked);
        // Computing what was loaded would have taken so much more, and loading it so much less.
        let without = ttft.zip(picked).zip(record.endpoint().and_then(prefill)).map(|((ttft, picked), rate)| {
            let loading = if loaded_tokens > 0 { picked.terms.fetch_seconds } else { 0.0 };
            (ttft - loading).max(0.0) + f64::from(loaded_tokens) / rate
        });
        self.ttft.extend(ttft);
        self.ttft_without.extend(without);
        json!({
            "request": record.request,
            "age_seconds": record.at.elapsed().as_secs_f64(),
            "model": record.model,
            "tenant": record.tenant,
            "prompt_tokens": record.prompt_tokens,
            "hit_tokens": hit_tokens,
            "loaded_tokens": loaded_tokens,
            "expected_tokens": record.predicted_hit_tokens(),
            "source": picked.map(|picked| picked.terms.source),
            "endpoint": record.endpoint(),
            "ttft_seconds": ttft,
            "expected_seconds": picked.map(|picked| picked.terms.ttft_seconds()),
            "outcome": record.ended.map(|(outcome, _)| outcome.as_str()),
        })
    }
}

/// Median and 95th percentile; `None` of nothing.
fn quantiles(samples: &mut [f64]) -> Option<Value> {
    let last = samples.len().checked_sub(1)?;
    samples.sort_unstable_by(f64::total_cmp);
    Some(json!({ "p50": samples[last / 2], "p95": samples[last * 95 / 100] }))
}
