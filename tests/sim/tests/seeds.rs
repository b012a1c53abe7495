//! Histories made up by 200 fixed seeds, or by as many as `SEEDS` says: nothing that must hold is violated in any.
#![expect(clippy::disallowed_methods, reason = "`make sim` says by the environment which seeds, and how many")]
#![expect(
    clippy::print_stdout,
    reason = "whoever runs thousands wants to see how far they are, and each that fails at once"
)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use weft_sim_tests::{Judged, Run};

/// Seeds of every `make test`.
const SEEDS: u64 = 200;

/// Of the histories of accounts, one in so many may be left undecided, and two more: a search that gives up often finds nothing.
const DECIDED_OF: u64 = 50;

/// Seeds after which it is told how far it is.
const TOLD_EVERY: u64 = 500;

/// After so many seeds that fail no more are tried.
const FAILED_MAX: usize = 5;

/// What came of the seeds so far.
#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    judged: Judged,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Result<Judged, String>) {
        self.seeds += 1;
        match outcome {
            Ok(judged) => {
                self.judged.histories += judged.histories;
                self.judged.undecided += judged.undecided;
            }
            Err(how) => {
                println!("{how}");
                self.failed.push(seed);
            }
        }
    }

    fn check(&self) {
        assert!(self.failed.is_empty(), "{self}");
        let max = 2 + self.judged.histories / DECIDED_OF;
        assert!(self.judged.undecided <= max, "too many are not decided: {self}");
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seeds, ", self.seeds)?;
        match &self.failed[..] {
            [] => write!(f, "nothing violated")?,
            failed => write!(f, "{} FAILED: {failed:?}", failed.len())?,
        }
        let Judged { histories, undecided } = self.judged;
        write!(f, "; {histories} histories of accounts judged, {undecided} of them not decided")
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number expected")))
}

/// Runs one seed; says how to replay it if it fails.
fn try_seed(seed: u64) -> Result<Judged, String> {
    let mut run = Run::of(seed);
    if let Some(steps) = number("STEPS") {
        run.steps = usize::try_from(steps).expect("a number of steps");
    }
    let mut report = run.run();
    if report.violations.is_empty() {
        return Ok(report.judged);
    }
    if number("STEPS").is_none() {
        run = run.shrink();
        report = run.run();
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}.log"));
    std::fs::write(&file, &report.chronicle).expect("cargo makes this folder");
    Err(format!(
        "seed {seed} fails after {steps} steps: {violations:#?}\nwhat happened is in {file}\nreplay it with: make sim SEED={seed} STEPS={steps}",
        steps = run.steps,
        violations = report.violations,
        file = file.display(),
    ))
}

#[test]
fn nothing_that_must_hold_is_violated() {
    let sum = Mutex::new(Sum::default());
    if let Some(seed) = number("SEED") {
        sum.lock().add(seed, try_seed(seed));
    } else {
        let (first, seeds) = (number("FROM").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
        let next = AtomicU64::new(first);
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds || sum.lock().failed.len() >= FAILED_MAX {
                    return;
                }
                let outcome = try_seed(seed);
                let mut sum = sum.lock();
                sum.add(seed, outcome);
                if sum.seeds.is_multiple_of(TOLD_EVERY) {
                    println!("{sum}");
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    }
    let sum = sum.into_inner();
    println!("{sum}");
    sum.check();
}
