//! Times of many operations, and the quantiles that are reported of them.

use std::time::Duration;

/// Times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time that a share of them, from 0 to 1, did not exceed; 0 of none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), 0.0);
        for seconds in [4, 1, 3, 2] {
            latencies.add(Duration::from_secs(seconds));
        }
        assert_eq!((latencies.quantile(0.5), latencies.quantile(0.99), latencies.quantile(0.0)), (2.0, 4.0, 1.0));
    }
}
