//! A tenant's rate: what it has saved up, in prompt tokens.

use std::time::{Duration, Instant};

use super::Share;

/// It may be overdrawn by one request, so that one larger than a burst passes too, and is paid for afterwards.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    share: Share,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant, share: Share) -> Self {
        Self { tokens: share.burst_tokens.max(1.0), share, at: now }
    }

    /// Takes tokens out; or says when there will be some. What is given may have changed since the last time.
    pub(super) fn take(&mut self, now: Instant, share: &Share, tokens: u32) -> Result<(), Duration> {
        self.tokens = self.level(now);
        (self.at, self.share) = (now, *share);
        if share.tokens_per_second <= 0.0 {
            return Ok(());
        }
        if self.tokens < 1.0 {
            let seconds = (1.0 - self.tokens) / share.tokens_per_second;
            return Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        }
        self.tokens -= f64::from(tokens);
        Ok(())
    }

    /// Nothing is lost by forgetting it.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.share.tokens_per_second <= 0.0 || self.level(now) >= self.share.burst_tokens
    }

    fn level(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * self.share.tokens_per_second).min(self.share.burst_tokens.max(1.0))
    }
}
