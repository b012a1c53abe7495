//! Histories made up by 200 fixed seeds, or by as many as `SEEDS` says: nothing that must hold is violated in any.
#![expect(clippy::disallowed_methods, reason = "`make sim` says by the environment which seeds, and how many")]

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use weft_sim_tests::{Judged, Run};

/// Seeds of every `make test`.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number expected")))
}

/// Of the histories of accounts, one in so many may be left undecided, and two more: a search that gives up often finds nothing.
const DECIDED_OF: u64 = 50;

/// Seeds after which it is told how far it is.
const TOLD_EVERY: u64 = 500;

/// Runs one seed; says how to replay it if it fails.
fn check(seed: u64) -> Judged {
    let mut run = Run::of(seed);
    if let Some(steps) = number("STEPS") {
        run.steps = usize::try_from(steps).expect("a number of steps");
    }
    let mut report = run.run();
    if report.violations.is_empty() {
        return report.judged;
    }
    if number("STEPS").is_none() {
        run = run.shrink();
        report = run.run();
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}.log"));
    std::fs::write(&file, &report.chronicle).expect("cargo makes this folder");
    panic!(
        "seed {seed} fails after {steps} steps: {violations:#?}\nwhat happened is in {file}\nreplay it with: make sim SEED={seed} STEPS={steps}",
        steps = run.steps,
        violations = report.violations,
        file = file.display(),
    );
}

#[test]
fn nothing_that_must_hold_is_violated() {
    if let Some(seed) = number("SEED") {
        println!("{}", told(1, check(seed)));
        return;
    }
    let sum = Mutex::new((0, Judged::default()));
    let (next, seeds) = (AtomicU64::new(0), number("SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let judged = check(seed);
                    let (done, all) = &mut *sum.lock();
                    *done += 1;
                    all.histories += judged.histories;
                    all.undecided += judged.undecided;
                    if *done % TOLD_EVERY == 0 {
                        println!("{}", told(*done, *all));
                    }
                }
            });
        }
    });
    let (done, judged) = sum.into_inner();
    println!("{}", told(done, judged));
    let max = 2 + judged.histories / DECIDED_OF;
    assert!(judged.undecided <= max, "too many are not decided: {}", told(done, judged));
}

fn told(seeds: u64, judged: Judged) -> String {
    let Judged { histories, undecided } = judged;
    format!(
        "{seeds} seeds, nothing violated; {histories} histories of accounts judged, {undecided} of them not decided"
    )
}
