//! What the histories are made for does happen in them: an invariant that is never put to the test holds always.

use std::collections::BTreeMap;

use weft_sim_tests::Run;

/// What the chronicle of a run says when it happened.
const HAPPENS: &[&str] = &[
    "takes over a snapshot",
    "the group changes: CatchingUp",
    "done: Ask { add: Some(",
    "done: End(",
    "leadership was handed over to",
    "loses power",
    "is unknown",
    "compares its Host: Ok(Repairing)",
    "compares its Engine: Ok(Repairing)",
    "Replaced {",
    "Fenced",
    "Operated(Leased",
    "blocks asked",
    "no lease",
    "was not answered",
    "leases end",
];

/// The rarest, a fenced report, is in one of some thirty.
const RUNS: u64 = 100;

#[test]
fn what_the_histories_are_for_happens_in_them() {
    let mut seen: BTreeMap<&str, usize> = HAPPENS.iter().map(|what| (*what, 0)).collect();
    let mut seeds = 0..RUNS;
    while seen.values().any(|runs| *runs == 0)
        && let Some(seed) = seeds.next()
    {
        let chronicle = Run::of(seed).run().chronicle;
        for (what, runs) in &mut seen {
            *runs += usize::from(chronicle.contains(*what));
        }
    }
    let never: Vec<_> = seen.iter().filter(|(_, runs)| **runs == 0).collect();
    assert!(never.is_empty(), "of {RUNS} runs in none: {never:?}; all: {seen:#?}");
}
