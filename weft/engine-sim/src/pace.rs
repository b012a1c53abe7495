//! How long things take on the simulated accelerator, and the one queue for prefill.
//!
//! ```text
//! prefill = (overhead + uncached tokens / rate) × (1 + prefill_slowdown × decoding requests)
//! token   = decode_step + decode_slowdown × decoding requests
//! ```
//! both divided by `speed`. The server keeps the instant at which it is free next instead of adding up sleeps, so that
//! the timer's granularity (a millisecond) delays single answers but never the rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};
use weft_service::config::duration;

/// Speed of the simulated accelerator. The defaults are an 8-billion-parameter model on one H100-class device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Prompt tokens computed a second. Default 20000; at least 1.
    pub prefill_tokens_per_s: u32,
    /// Fixed cost of a prefill. Default 5ms.
    #[serde(with = "duration")]
    pub prefill_overhead: Duration,
    /// Share by which each decoding request slows prefill down. Default 0.004.
    pub prefill_slowdown: f64,
    /// Time of a token of a request that decodes alone. Default 8ms.
    #[serde(with = "duration")]
    pub decode_step: Duration,
    /// Time that each decoding request adds to a token of every other. Default 60us.
    #[serde(with = "duration")]
    pub decode_slowdown: Duration,
    /// Divides every simulated time. Default 1; over 0. Far above 100, what is measured is the host and not the model.
    pub speed: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            prefill_tokens_per_s: 20_000,
            prefill_overhead: Duration::from_millis(5),
            prefill_slowdown: 0.004,
            decode_step: Duration::from_millis(8),
            decode_slowdown: Duration::from_micros(60),
            speed: 1.0,
        }
    }
}

impl Pace {
    /// Time to compute `tokens` of a prompt while `decoding` requests decode.
    pub(crate) fn prefill(&self, tokens: usize, decoding: usize) -> Duration {
        let compute = tokens as f64 / f64::from(self.prefill_tokens_per_s);
        let alone = self.prefill_overhead.as_secs_f64() + compute;
        Duration::from_secs_f64(alone * (1.0 + self.prefill_slowdown * decoding as f64) / self.speed)
    }

    /// Time of the next `tokens` of one request while `decoding` requests decode, itself included.
    pub(crate) fn decode(&self, tokens: usize, decoding: usize) -> Duration {
        let others = decoding.saturating_sub(1) as f64;
        let token = self.decode_step.as_secs_f64() + self.decode_slowdown.as_secs_f64() * others;
        Duration::from_secs_f64(token * tokens as f64 / self.speed)
    }
}

/// One prefill at a time, first come first served.
#[derive(Debug)]
pub(crate) struct PrefillServer {
    free_at: Mutex<Instant>,
}

/// The server, ours until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    free_at: MutexGuard<'a, Instant>,
    start: Instant,
}

impl PrefillServer {
    pub(crate) fn new() -> Self {
        Self { free_at: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of whoever calls. It began when the server became free, or when it was asked for if later.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let asked = Instant::now();
        let free_at = self.free_at.lock().await;
        let start = asked.max(*free_at);
        Turn { free_at, start }
    }
}

impl Turn<'_> {
    /// The turn begins only now: something else than the server had to be waited for.
    pub(crate) fn begin_now(&mut self) {
        self.start = Instant::now();
    }

    /// Occupies the server for `work`. Dropped early, the server is free at that moment.
    pub(crate) async fn run(mut self, work: Duration) {
        let end = self.start + work;
        *self.free_at = end;
        sleep_until(end).await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.free_at = (*self.free_at).min(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn times_follow_the_formula() {
        let pace = Pace { speed: 2.0, ..Pace::default() };
        assert_eq!(pace.prefill(20_000, 0), Duration::from_micros(502_500));
        assert_eq!(pace.prefill(0, 250), Duration::from_millis(5));
        assert_eq!(pace.decode(1, 1), Duration::from_millis(4));
        assert_eq!(pace.decode(2, 101), Duration::from_millis(14));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_short_turns_take_exactly_their_sum() {
        let server = Arc::new(PrefillServer::new());
        let began = Instant::now();
        let turns: Vec<_> = (0..1000)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move { server.turn().await.run(Duration::from_micros(100)).await })
            })
            .collect();
        for turn in turns {
            turn.await.unwrap();
        }
        assert_eq!(*server.free_at.lock().await - began, Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_turn_frees_the_server_at_once() {
        let server = PrefillServer::new();
        let began = Instant::now();
        let long = server.turn().await.run(Duration::from_secs(60));
        tokio::time::timeout(Duration::from_secs(1), long).await.unwrap_err();
        server.turn().await.run(Duration::from_secs(1)).await;
        assert_eq!(began.elapsed().as_secs(), 2);
    }
}
