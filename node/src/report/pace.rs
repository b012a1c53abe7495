//! When which holder is compared: each about once in the configured time, one at a time, evenly spread and jittered, so that a
//! fleet started at one moment does not ask at one moment. A value: the clock and the dice are arguments.

use std::time::Duration;

use tokio::time::Instant;

/// The turns of a node's holders.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Between two turns of one holder; zero: there are none.
    every: Duration,
    next: Option<Instant>,
    turn: usize,
}

impl Pace {
    /// `dice`: between 0 and 1; how much of the first pause is waited.
    pub(crate) fn new(every: Duration, now: Instant, dice: f64) -> Self {
        let next = (!every.is_zero()).then(|| now + every.mul_f64(dice));
        Self { every, next, turn: 0 }
    }

    /// When the next turn is.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes the turn: which of so many holders it is. The next follows after its share of the time, a quarter more or less
    /// by the `dice`, which are between 0 and 1.
    pub(crate) fn take(&mut self, holders: usize, now: Instant, dice: f64) -> usize {
        let holders = holders.max(1);
        let share = self.every / u32::try_from(holders).unwrap_or(u32::MAX);
        self.next = self.next.map(|_| now + share.mul_f64(0.75 + dice / 2.0));
        let turn = self.turn % holders;
        self.turn = turn + 1;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn holders_take_turns_and_each_has_one_in_about_the_time() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut pace = Pace::new(minute, start, 0.5);
        assert_eq!(pace.next(), Some(start + minute / 2));
        let mut turns = Vec::new();
        for dice in [0.0, 1.0, 0.5] {
            turns.push(pace.take(3, start, dice));
            let pause = pace.next().unwrap() - start;
            assert_eq!(pause.as_secs_f64().round(), 20.0 * (0.75 + dice / 2.0));
        }
        assert_eq!(turns, [0, 1, 2]);
        assert_eq!(pace.take(3, start, 0.5), 0);
        assert_eq!(pace.take(1, start, 0.5), 0, "holders went");
        assert_eq!(Pace::new(Duration::ZERO, start, 0.5).next(), None, "never");
    }
}
