//! Histories made up by 200 fixed seeds, or by as many as `SEEDS` says: nothing that must hold is violated in any.
#![expect(clippy::disallowed_methods, reason = "`make sim` says by the environment which seeds, and how many")]

use std::sync::atomic::{AtomicU64, Ordering};

use weft_sim_tests::Run;

/// Seeds of every `make test`.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number expected")))
}

/// Runs one seed; says how to replay it if it fails.
fn check(seed: u64) {
    let mut run = Run::of(seed);
    if let Some(steps) = number("STEPS") {
        run.steps = usize::try_from(steps).expect("a number of steps");
    }
    let mut report = run.run();
    if report.violations.is_empty() {
        return;
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
        return check(seed);
    }
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
                    check(seed);
                }
            });
        }
    });
}
