//! Whether two sets of times are of one kind: the Mann–Whitney test (Mann and Whitney 1947), with its null distribution by
//! permutation, so that nothing is assumed of how times are spread; and how small a difference it would have seen.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Permutations of which the null distribution is made: p-values down to 1 in 2,000.
const PERMUTATIONS: usize = 2_000;
/// Resamples by which the power at one difference is told, to some 5 %.
const RESAMPLES: usize = 200;
/// Halvings of the interval in which the least difference that is seen lies: to a thousandth of it.
const HALVINGS: usize = 10;
/// The same samples give the same answer.
const SEED: u64 = 7;

/// Probability, if both were of one kind, that they differ as much as they do.
pub(super) fn p_value(a: &[f64], b: &[f64]) -> f64 {
    let ranks = ranks(&[a, b].concat());
    let seen = distance(&ranks, a.len());
    let as_far = null(ranks, a.len()).filter(|distance| *distance >= seen - f64::EPSILON).count();
    // The order that was seen is one of those that could have been.
    to_f64(as_far + 1) / to_f64(PERMUTATIONS + 1)
}

/// The least that could be added to all of `b`, were it of `a`'s kind, for the test to say so at `alpha` in a share `power` of cases. `None`:
/// not even ten times the spread of `a`.
pub(super) fn detectable(a: &[f64], alpha: f64, power: f64) -> Option<f64> {
    let (least, most) = a.iter().fold((f64::MAX, f64::MIN), |(least, most), x| (least.min(*x), most.max(*x)));
    let mut critical: Vec<f64> = null((0..2 * a.len()).map(to_f64).collect(), a.len()).collect();
    critical.sort_unstable_by(f64::total_cmp);
    // The least distance that is as seldom as that; among few samples none is.
    let within = critical[critical.len() - 1 - (to_f64(critical.len()) * alpha) as usize];
    let critical = critical.iter().copied().find(|distance| *distance > within)?;
    let is_seen = |shift: f64| {
        let mut dice = StdRng::seed_from_u64(SEED);
        let mut draw =
            |shift: f64| -> Vec<f64> { a.iter().map(|_| a[dice.random_range(0..a.len())] + shift).collect() };
        let rejected =
            (0..RESAMPLES).filter(|_| distance(&ranks(&[draw(0.0), draw(shift)].concat()), a.len()) >= critical);
        to_f64(rejected.count()) >= power * to_f64(RESAMPLES)
    };
    let (mut unseen, mut seen) = (0.0, 10.0 * (most - least));
    if !is_seen(seen) {
        return None;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(unseen, seen);
        *(if is_seen(middle) { &mut seen } else { &mut unseen }) = middle;
    }
    Some(seen)
}

/// How far the ranks of the first `count` are from what they would be on average, were they dealt at random.
fn distance(ranks: &[f64], count: usize) -> f64 {
    let sum: f64 = ranks[..count].iter().sum();
    let mean = ranks.iter().sum::<f64>() * to_f64(count) / to_f64(ranks.len());
    (sum - mean).abs()
}

/// Distances of ranks that are dealt at random.
fn null(mut ranks: Vec<f64>, count: usize) -> impl Iterator<Item = f64> {
    let mut dice = StdRng::seed_from_u64(SEED);
    (0..PERMUTATIONS).map(move |_| {
        ranks.shuffle(&mut dice);
        distance(&ranks, count)
    })
}

/// The place of each among all, from 0; equals share the middle of theirs.
fn ranks(all: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by(|a, b| all[*a].total_cmp(&all[*b]));
    let mut ranks = vec![0.0; all.len()];
    let mut first = 0;
    for equals in order.chunk_by(|a, b| all[*a].total_cmp(&all[*b]).is_eq()) {
        let middle = to_f64(2 * first + equals.len() - 1) / 2.0;
        equals.iter().for_each(|at| ranks[*at] = middle);
        first += equals.len();
    }
    ranks
}

fn to_f64(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times with a tail, as those of requests have.
    fn times(count: usize, seed: u64, add: f64) -> Vec<f64> {
        let mut dice = StdRng::seed_from_u64(seed);
        (0..count).map(|_| 10.0 - 2.0 * dice.random::<f64>().ln() + add).collect()
    }

    #[test]
    fn what_is_of_one_kind_is_seldom_told_apart_and_what_is_not_always() {
        let alike =
            (0..100).filter(|seed| p_value(&times(30, *seed, 0.0), &times(30, seed + 1000, 0.0)) < 0.05).count();
        assert!((1..=12).contains(&alike), "{alike} of 100, where 5 are expected");
        assert!(p_value(&times(30, 1, 0.0), &times(30, 2, 6.0)) < 0.001);
        assert!(p_value(&times(30, 1, 6.0), &times(30, 2, 0.0)) < 0.001, "in both directions");
        assert!(p_value(&[1.0; 20], &[1.0; 20]) > 0.99, "equals are equal");
    }

    #[test]
    fn the_least_difference_that_is_seen_is_one() {
        let quiet = times(40, 3, 0.0);
        let least = detectable(&quiet, 0.01, 0.8).unwrap();
        assert!((0.5..4.0).contains(&least), "{least}");
        let seen = (0..50).filter(|seed| p_value(&times(40, *seed, 0.0), &times(40, seed + 500, least)) < 0.01).count();
        assert!(
            seen >= 25,
            "{seen} of 50, where 40 are expected of samples like this one, and {least} was told from one"
        );
        assert!(detectable(&times(160, 3, 0.0), 0.01, 0.8).unwrap() < least, "more is seen with more samples");
        assert_eq!(detectable(&[1.0, 2.0], 0.01, 0.8), None, "two samples say nothing");
    }
}
