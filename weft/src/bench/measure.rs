//! How long something takes, on a machine that does other things too.
//!
//! A measurement is repeated in rounds, and the median round counts: one that was interrupted falls out.

use std::time::{Duration, Instant};

/// How much patience there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// A second or two a bench instead of ten.
    pub(crate) quick: bool,
}

impl Effort {
    /// Rounds of a measurement.
    pub(crate) const ROUNDS: usize = 5;

    /// Time of one round of one measurement.
    pub(crate) fn round(self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 600 })
    }

    /// `many`, or a tenth of it when quick.
    pub(crate) fn scaled(self, many: usize) -> usize {
        if self.quick { many / 10 } else { many }
    }

    /// Units a second, from work that says how many units it did: the median of the rounds.
    pub(crate) fn rate(self, mut work: impl FnMut() -> usize) -> f64 {
        work();
        let mut rates: Vec<f64> = (0..Self::ROUNDS).map(|_| round(self.round(), &mut work)).collect();
        rates.sort_by(f64::total_cmp);
        rates[Self::ROUNDS / 2]
    }
}

fn round(time: Duration, work: &mut impl FnMut() -> usize) -> f64 {
    let began = Instant::now();
    let mut units = 0;
    while began.elapsed() < time {
        units += work();
    }
    units as f64 / began.elapsed().as_secs_f64()
}
