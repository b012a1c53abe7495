//! One tenant cannot see another's blocks, nor can a certificate of another role: what `weft audit isolation` tries on real processes.

use std::collections::BTreeMap;

use weft_cluster_tests::Cluster;

#[test]
fn an_audit_of_isolation_passes_and_leaves_nothing() {
    let cluster = Cluster::start(&[]).unwrap();
    // Times are compared where nothing else runs: here they would tell of the other tests.
    let audit = ["audit", "isolation", "--prompts", "8", "--prompt-tokens", "256", "--without-timing"];
    let report = cluster.operator(&audit).unwrap();
    assert_eq!(report["passed"], true, "{report:#}");
    let findings = report["findings"].as_array().unwrap();
    let verdicts: BTreeMap<_, _> =
        findings.iter().map(|one| (one["check"].as_str().unwrap(), one["verdict"].as_str().unwrap())).collect();
    let holds =
        ["answers", "candidates", "directory", "doors", "forged salt", "stranger"].map(|check| (check, "holds"));
    assert_eq!(verdicts, holds.into_iter().chain([("timing", "not tried")]).collect(), "{report:#}");
    assert_eq!(cluster.operator(&["tenant", "list"]).unwrap()["tenants"], serde_json::json!([]));
}
