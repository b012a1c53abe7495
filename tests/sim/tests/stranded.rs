//! A new member that followed a leader whose decision to take it in came to nothing has a log, and is in no group: the next leader
//! takes it in with what it has.

use weft_sim_tests::Run;

#[test]
fn a_newcomer_that_followed_a_deposed_leader_is_taken_in_by_the_next() {
    let outcomes: Vec<bool> = (0..20).filter_map(|seed| Run::of(seed).strand_newcomer()).collect();
    assert!(outcomes.len() >= 5, "of 20 leaders only {} were deposed before it was agreed on", outcomes.len());
    assert!(outcomes.iter().all(|done| *done), "a newcomer stays out: {outcomes:?}");
}
