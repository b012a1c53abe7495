//! What came of it.

/// One simulated run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Times to first token, ascending.
    pub ttft_s: Vec<f64>,
    /// Prompt tokens by where they came from.
    pub tokens: Tokens,
    /// Time that each replica's prefill was at work.
    pub busy_s: Vec<f64>,
    /// From the first arrival to the last.
    pub span_s: f64,
    /// Bytes fetched from peers.
    pub fetched_bytes: f64,
}

/// Prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All of them.
    pub input: u64,
    /// Found in device memory.
    pub device: u64,
    /// Loaded from host memory.
    pub host: u64,
    /// Fetched from a peer.
    pub peer: u64,
}

impl Run {
    /// Share of prompt tokens that were not computed.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let Tokens { input, device, host, peer } = self.tokens;
        (device + host + peer) as f64 / (input as f64).max(1.0)
    }

    /// Mean time to first token.
    #[must_use]
    pub fn mean_s(&self) -> f64 {
        self.ttft_s.iter().sum::<f64>() / (self.ttft_s.len() as f64).max(1.0)
    }

    /// Time within which this share of requests had their first token.
    #[must_use]
    pub fn quantile_s(&self, share: f64) -> f64 {
        let rank = (share * self.ttft_s.len() as f64).ceil() as usize;
        self.ttft_s.get(rank.max(1) - 1).copied().unwrap_or(0.0)
    }

    /// Busiest replica over the mean.
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let busiest = self.busy_s.iter().copied().fold(0.0, f64::max);
        busiest / self.mean_busy_s().max(f64::MIN_POSITIVE)
    }

    /// Share of the time that prefills were at work.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.mean_busy_s() / self.span_s.max(f64::MIN_POSITIVE)
    }

    fn mean_busy_s(&self) -> f64 {
        self.busy_s.iter().sum::<f64>() / (self.busy_s.len() as f64).max(1.0)
    }
}
