//! A seed replays: two runs of it do the same things at the same times, to the byte.

use weft_sim_tests::Run;

#[test]
fn two_runs_of_a_seed_are_the_same() {
    for seed in 1000..1010 {
        let (first, second) = (Run::of(seed).run(), Run::of(seed).run());
        let differs = first.chronicle.lines().zip(second.chronicle.lines()).find(|(first, second)| first != second);
        assert_eq!(first.hash, second.hash, "seed {seed}: {differs:#?}");
    }
}
