//! `weft bench gpu`: refused without a GPU, and loud about a stand-in for one. Nothing here measures anything.

use std::process::Command;

use weft_cluster_tests::weft;
use weft_gpu_driver::stage::Stage;

#[test]
fn a_bench_of_a_gpu_needs_one_and_says_when_it_has_none() {
    let bench = || {
        let mut command = Command::new(weft());
        command.args(["bench", "gpu", "--quick", "--json", "--piece", "64KiB"]);
        command
    };
    // A library path with nothing on it hides no driver of the system's: on a machine with a GPU this half is not run.
    let without = bench().output().unwrap();
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(without.status.success() || said.contains("weft bench gpu needs a GPU"), "{said}");

    let stage = Stage::set();
    let with = stage.put(&mut bench()).output().unwrap();
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
    let outcome: serde_json::Value = serde_json::from_slice(&with.stdout).unwrap();
    let params = &outcome["params"];
    assert!(params["NO_GPU"].as_str().is_some_and(|label| label.contains("say nothing about any GPU")), "{params}");
    assert_eq!((&params["pinned"], &params["batched_copies"]), (&true.into(), &true.into()));
    let bars = outcome["bars"].as_array().unwrap();
    assert_eq!(bars.len(), 2);
    assert!(bars.iter().all(|bar| bar["value"].as_f64() > Some(0.0) && bar["limit"].as_f64() > Some(0.0)), "{bars:?}");
}
