//! Twins: with a guard off, the simulation must notice.

use weft_sim_tests::{Guards, Run};

/// Of some seeds, how many noticed a violation of one of these.
fn noticed(guards: Guards, seeds: std::ops::Range<u64>, invariants: &[&str]) -> usize {
    let run = |seed| Run { guards, ..Run::of(seed) }.run();
    let says = |violation: &String| invariants.iter().any(|invariant| violation.contains(invariant));
    seeds.filter(|seed| run(*seed).violations.iter().any(says)).count()
}

#[test]
fn disks_that_do_not_sync_lose_what_was_acknowledged_or_are_found_out() {
    let guards = Guards { disks_sync: false, ..Guards::default() };
    let lost = ["what is committed never changes", "no acknowledged fact is lost"];
    let run = |seed| Run { guards, ..Run::of(seed) }.run();
    let (mut losing, mut refused) = (0, 0);
    for report in (0..25).map(run) {
        losing += usize::from(report.violations.iter().any(|said| lost.iter().any(|lost| said.contains(lost))));
        refused += usize::from(report.chronicle.contains("refuses its disk"));
    }
    assert!(losing + refused >= 5, "of 25 runs without syncs {losing} lost something and {refused} were found out");
}

#[test]
fn reports_that_are_not_sent_again_leave_the_index_wrong() {
    // A comparison would put it right.
    let guards = Guards { retransmit: false, compare: false, ..Guards::default() };
    let wrong = noticed(guards, 0..10, &["the index equals the holdings once quiet"]);
    assert!(wrong >= 3, "of 10 runs without retransmission only {wrong} ended with a wrong index");
}

#[test]
fn what_went_unnoticed_stays_wrong_without_comparing() {
    let guards = Guards { compare: false, ..Guards::default() };
    let wrong = noticed(guards, 0..10, &["the index equals the holdings once quiet"]);
    assert!(wrong >= 3, "of 10 runs without comparisons only {wrong} ended with a wrong index");
}
