//! Draws from a measured distribution, given by its quantiles.

use rand::Rng;

/// Levels of the quantiles in a [`Quantiles`].
pub(crate) const LEVELS: [f64; 10] = [0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0];

/// Values at [`LEVELS`], ascending, all over 0. Between two levels the logarithm is linear: lengths and times of requests
/// spread over orders of magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantiles(pub(crate) [f64; LEVELS.len()]);

impl Quantiles {
    /// The value at a level from 0 to 1.
    pub(crate) fn at(&self, level: f64) -> f64 {
        let upper = LEVELS.iter().position(|known| *known >= level).unwrap_or(LEVELS.len() - 1).max(1);
        let (x0, x1) = (LEVELS[upper - 1], LEVELS[upper]);
        let (y0, y1) = (self.0[upper - 1].ln(), self.0[upper].ln());
        (y0 + (y1 - y0) * (level - x0) / (x1 - x0)).exp()
    }

    /// A value at random.
    pub(crate) fn draw(&self, dice: &mut impl Rng) -> f64 {
        self.at(dice.random_range(0.0..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_levels_are_met_and_others_lie_between() {
        let decades = Quantiles([1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 100.0, 1000.0, 1000.0, 10_000.0]);
        for (level, value) in LEVELS.iter().zip(decades.0) {
            assert!((decades.at(*level) - value).abs() < 1e-9 * value, "level {level}");
        }
        assert!((decades.at(0.625) - 32.0).abs() < 1e-9, "half way between 16 and 64 on a logarithmic scale");
        assert!((decades.at(0.97) - 1000.0).abs() < 1e-9);
    }
}
