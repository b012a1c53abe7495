//! A change of the group that a dead leader left half made is ended by the next, though nobody asks for it again.

use weft_sim_tests::Run;

#[test]
fn a_change_that_a_dead_leader_left_half_made_is_ended() {
    let outcomes: Vec<bool> = (0..20).filter_map(|seed| Run::of(seed).abandon_change()).collect();
    assert!(outcomes.len() >= 5, "of 20 leaders only {} died in the midst of a change", outcomes.len());
    assert!(outcomes.iter().all(|ended| *ended), "a change stays half made: {outcomes:?}");
}
