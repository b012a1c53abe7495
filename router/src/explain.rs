//! Why requests went where they went: the last decisions, kept to be asked about by `weft explain`.
//!
//! A decision is kept with what was predicted and what came of it. Of the prompt there are counts and fingerprints, and no text.
//! What is kept is bounded in number and in bytes; the oldest leaves first.

mod miss;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use weft_policy::{Considered, Decision};
use weft_types::{EndpointId, TenantId};

use self::miss::diagnose;
use crate::metrics::Outcome;
use crate::prints::Prints;
use crate::usage::Usage;

/// The last decisions.
#[derive(Debug)]
pub(crate) struct Explain {
    decisions_max: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// With what each was counted for: a record grows while it is here.
    records: VecDeque<(Entry, usize)>,
    bytes: usize,
}

/// A record, while others still write to it.
pub(crate) type Entry = Arc<Mutex<Record>>;

/// One request, from its first decision to its end.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) request: String,
    /// When its body was whole.
    pub(crate) at: Instant,
    pub(crate) model: String,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) prompt_tokens: u32,
    /// They were counted by a tokenizer, and the index was asked; otherwise they are guessed from the body's size.
    pub(crate) counted: bool,
    pub(crate) prints: Prints,
    /// How old the index was; `None`: there is none.
    pub(crate) index_age: Option<Duration>,
    pub(crate) attempts: Vec<Attempt>,
    /// From `at` to the first byte of a stream.
    pub(crate) ttft: Option<Duration>,
    pub(crate) usage: Option<Usage>,
    pub(crate) ended: Option<(Outcome, Duration)>,
}

/// One endpoint that it was sent to.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) picked: Considered,
    /// The others, the cheapest first.
    pub(crate) others: Vec<Considered>,
    /// Others beyond those.
    pub(crate) left_out: usize,
    pub(crate) beta: f64,
    /// From `at` to the decision.
    pub(crate) took: Duration,
    pub(crate) failed: Option<String>,
}

impl Attempt {
    /// Others that are kept: enough to see why, in a fleet of thousands.
    const OTHERS_MAX: usize = 31;

    pub(crate) fn new(mut decision: Decision, took: Duration) -> Self {
        let picked = decision.considered.swap_remove(decision.picked);
        let mut others = decision.considered;
        others.sort_by(|a, b| a.terms.cost_seconds.total_cmp(&b.terms.cost_seconds));
        let left_out = others.len().saturating_sub(Self::OTHERS_MAX);
        others.truncate(Self::OTHERS_MAX);
        others.shrink_to_fit();
        Self { picked, others, left_out, beta: decision.beta, took, failed: None }
    }
}

impl Record {
    /// Tokens of the prompt that the engine was expected not to compute.
    pub(crate) fn predicted_hit_tokens(&self) -> Option<u32> {
        let attempt = self.attempts.last()?;
        Some(self.prompt_tokens.saturating_sub(attempt.picked.terms.computed_tokens))
    }

    /// Where it is, or was last.
    pub(crate) fn endpoint(&self) -> Option<&EndpointId> {
        self.attempts.last().map(|attempt| &attempt.picked.endpoint)
    }

    /// Tokens that came from a node's tiers: those that the engine says it did not compute, beyond those that were expected in its
    /// device memory, and no more than were expected from the tiers.
    pub(crate) fn loaded_tokens(&self) -> u32 {
        let Some((terms, cached)) = self
            .attempts
            .last()
            .map(|attempt| attempt.picked.terms)
            .zip(self.usage.and_then(|usage| usage.cached_tokens))
        else {
            return 0;
        };
        let tiers = terms.local_tokens + terms.peer_tokens;
        let device = self.prompt_tokens.saturating_sub(terms.computed_tokens + tiers);
        cached.saturating_sub(device).min(tiers)
    }

    /// What it takes at most: a second attempt may come.
    fn bytes(&self) -> usize {
        let considered: usize = self.attempts.iter().map(|attempt| attempt.others.len() + 1).sum();
        size_of::<Self>()
            + size_of_val(self.prints.chunks())
            + 2 * considered * size_of::<Considered>()
            + self.model.len()
    }
}

impl Explain {
    /// Of all decisions; a record of a 100,000-token prompt in a fleet of 32 takes some 20 KiB.
    const BYTES_MAX: usize = 32 << 20;

    pub(crate) fn new(decisions_max: usize) -> Self {
        Self { decisions_max, ring: Mutex::default() }
    }

    /// Keeps a record.
    pub(crate) fn keep(&self, record: Record) -> Entry {
        let bytes = record.bytes();
        let entry = Arc::new(Mutex::new(record));
        let mut ring = self.ring.lock();
        ring.bytes += bytes;
        ring.records.push_back((Arc::clone(&entry), bytes));
        while ring.records.len() > self.decisions_max || ring.bytes > Self::BYTES_MAX {
            let Some((_, bytes)) = ring.records.pop_front() else { break };
            ring.bytes -= bytes;
        }
        entry
    }

    /// The last so many, the newest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Entry> {
        self.ring.lock().records.iter().rev().take(count).map(|(entry, _)| Arc::clone(entry)).collect()
    }

    /// Everything that is known of a request; `None`: nothing is, or no longer.
    pub(crate) fn explain(&self, request: &str, lives: &dyn Fn(&EndpointId) -> bool) -> Option<Value> {
        let records: Vec<Entry> = self.ring.lock().records.iter().map(|(entry, _)| Arc::clone(entry)).collect();
        let at = records.iter().rposition(|record| record.lock().request == request)?;
        let misses = diagnose(&records[at], &records[..at], lives);
        let record = records[at].lock();
        let attempt = |attempt: &Attempt| {
            json!({
                "picked": attempt.picked, "others": attempt.others, "left_out": attempt.left_out, "beta": attempt.beta,
                "decision_seconds": attempt.took.as_secs_f64(), "failed": attempt.failed,
            })
        };
        let last = record.attempts.last()?;
        Some(json!({
            "request": record.request,
            "age_seconds": record.at.elapsed().as_secs_f64(),
            "model": record.model,
            "tenant": record.tenant,
            "prompt": { "tokens": record.prompt_tokens, "counted": record.counted },
            "index_age_seconds": record.index_age.map(|age| age.as_secs_f64()),
            "attempts": record.attempts.iter().map(attempt).collect::<Vec<_>>(),
            "predicted": { "ttft_seconds": last.picked.terms.ttft_seconds(), "hit_tokens": record.predicted_hit_tokens() },
            "happened": {
                "ttft_seconds": record.ttft.map(|took| took.as_secs_f64()),
                "prompt_tokens": record.usage.map(|usage| usage.prompt_tokens),
                "hit_tokens": record.usage.and_then(|usage| usage.cached_tokens),
                "outcome": record.ended.map(|(outcome, _)| outcome.as_str()),
                "seconds": record.ended.map(|(_, took)| took.as_secs_f64()),
            },
            "missed": misses.iter().map(|miss| miss.as_json()).collect::<Vec<_>>(),
        }))
    }
}
