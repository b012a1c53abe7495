//! Arrival times. Published traces round them to steps of seconds, and all requests of a step at one instant would be a
//! load that nobody had; so they are spread uniformly inside their step.

use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Row;

/// Arrivals of `rows`, ascending, the first at or after 0. Rows are put in the order of their timestamps first; a group of
/// equal ones is spread up to the next timestamp, the last group over as long as the step before it.
pub(crate) fn spread(rows: &mut [Row], seed: u64) -> Vec<Duration> {
    rows.sort_by_key(|row| row.timestamp);
    let origin = rows.first().map_or(0, |row| row.timestamp);
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut arrivals: Vec<Duration> = Vec::with_capacity(rows.len());
    let mut step = 0;
    let groups: Vec<&[Row]> = rows.chunk_by(|a, b| a.timestamp == b.timestamp).collect();
    for (number, group) in groups.iter().enumerate() {
        let begin = group[0].timestamp;
        step = groups.get(number + 1).map_or(step, |next| next[0].timestamp - begin);
        let offset = |_| if group.len() == 1 { 0.0 } else { dice.random_range(0.0..1.0) * step as f64 };
        let mut offsets: Vec<f64> = (0..group.len()).map(offset).collect();
        offsets.sort_by(f64::total_cmp);
        arrivals.extend(offsets.iter().map(|ms| Duration::from_secs_f64(((begin - origin) as f64 + ms) / 1000.0)));
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp: u64) -> Row {
        Row { timestamp, input_length: 1, output_length: 1, hash_ids: vec![], session_id: None, turn: 0, think_ms: 0 }
    }

    #[test]
    fn steps_are_filled_evenly_and_single_arrivals_keep_their_time() {
        let mut rows: Vec<_> = (0..1000).map(|_| at(6000)).collect();
        rows.extend([at(3000), at(9000)]);
        let arrivals = spread(&mut rows, 1);
        assert_eq!((arrivals[0], arrivals[1001]), (Duration::ZERO, Duration::from_secs(6)));
        assert!(arrivals.is_sorted());
        let first_half = arrivals[1..1001].iter().filter(|at| **at < Duration::from_millis(4500)).count();
        assert!((400..600).contains(&first_half), "{first_half} of 1000 in the first half of the step");
        assert_eq!(spread(&mut rows, 1), arrivals);
        assert_ne!(spread(&mut rows, 2), arrivals);
    }
}
