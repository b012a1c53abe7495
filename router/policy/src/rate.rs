//! Rates that are learnt from what happened.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Tokens a second, as a ratio of two sums that forget: a long prompt says more than a short one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Rate {
    tokens: f64,
    seconds: f64,
}

/// What an endpoint is believed to do before anything was seen of it.
///
/// Believing it faster than it is costs more than believing it slower (a factor of 2: up to 43 % of mean time to first
/// token against up to 6 %), so that these err low.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Priors {
    /// Prefill, tokens a second. Default 10,000: half of what an 8-billion-parameter model does on one large GPU.
    pub prefill_tokens_per_second: f64,
    /// Load from the node's own tiers, tokens a second. Default 100,000: 13 GB/s of 128 KiB a token.
    pub local_tokens_per_second: f64,
    /// Fetch from a peer, tokens a second. Default 15,000: 2 GB/s of 128 KiB a token.
    pub peer_tokens_per_second: f64,
    /// What every prefill takes beside its tokens, milliseconds. Default 5.
    pub prefill_overhead_ms: f64,
    /// What every load takes beside its tokens, milliseconds. Default 2.
    pub load_start_ms: f64,
    /// Device memory of an engine, tokens of KV cache. Default 0: not known, and not watched. Where long answers hold it, a request that
    /// does not fit waits for one of them, however short the queue.
    pub device_tokens: u64,
    /// Rates move from what is given here to what first tokens show. Default true.
    pub learn: bool,
}

impl Default for Priors {
    fn default() -> Self {
        Self {
            prefill_tokens_per_second: 10_000.0,
            local_tokens_per_second: 100_000.0,
            peer_tokens_per_second: 15_000.0,
            prefill_overhead_ms: 5.0,
            load_start_ms: 2.0,
            device_tokens: 0,
            learn: true,
        }
    }
}

/// What was learnt of one endpoint.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Rates {
    /// Prefill.
    pub prefill: Rate,
    /// Loads from the node's own tiers.
    pub local: Rate,
    /// Fetches from peers.
    pub peer: Rate,
}

impl Rates {
    pub(crate) fn new(priors: &Priors) -> Self {
        Self {
            prefill: Rate::prior(priors.prefill_tokens_per_second),
            local: Rate::prior(priors.local_tokens_per_second),
            peer: Rate::prior(priors.peer_tokens_per_second),
        }
    }
}

impl Rate {
    /// The prior counts as much as one prompt of this many tokens.
    const PRIOR_TOKENS: f64 = 2048.0;
    /// What an observation leaves of the ones before: the last 20 make up seven eighths.
    const KEPT: f64 = 0.9;
    /// Fewer tokens say more about the clock than about the rate.
    const TOKENS_MIN: u32 = 128;
    /// An observation counts as at most this many times faster than the rate so far: one wrong prediction of where a
    /// prefix was must not make an endpoint look infinitely fast.
    const SPEEDUP_MAX: f64 = 4.0;

    fn prior(tokens_per_second: f64) -> Self {
        let tokens_per_second = tokens_per_second.max(1.0);
        Self { tokens: Self::PRIOR_TOKENS, seconds: Self::PRIOR_TOKENS / tokens_per_second }
    }

    /// Tokens a second.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// What so many tokens take.
    pub(crate) fn seconds_for(&self, tokens: u32) -> f64 {
        f64::from(tokens) / self.tokens_per_second()
    }

    /// So many tokens took so long.
    pub(crate) fn observe(&mut self, tokens: u32, took: Duration) {
        if tokens < Self::TOKENS_MIN {
            return;
        }
        // However slow, it counts in full: where memory is what a request waited for, and `device_tokens` does not tell of it,
        // this is all that keeps the next ones away.
        let seconds = took.as_secs_f64().max(self.seconds_for(tokens) / Self::SPEEDUP_MAX);
        self.tokens = self.tokens * Self::KEPT + f64::from(tokens);
        self.seconds = self.seconds * Self::KEPT + seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_moves_to_what_is_seen() {
        let mut rate = Rate::prior(10_000.0);
        for _ in 0..40 {
            rate.observe(4000, Duration::from_secs_f64(4000.0 / 2_500.0));
        }
        let learnt = rate.tokens_per_second();
        assert!((2_450.0..2_600.0).contains(&learnt), "{learnt}");
    }

    #[test]
    fn few_tokens_teach_nothing_and_one_answer_too_fast_not_much() {
        let mut rate = Rate::prior(10_000.0);
        rate.observe(Rate::TOKENS_MIN - 1, Duration::from_secs(100));
        assert_eq!(rate, Rate::prior(10_000.0));
        rate.observe(2048, Duration::ZERO);
        assert!(rate.tokens_per_second() < 10_000.0 * Rate::SPEEDUP_MAX, "{rate:?}");
    }
}
