//! Which crate may depend on which. A new arrow is a diff to this table, which a reviewer sees.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// crate → what it may depend on. Everything but `weft-service` may also depend on `weft-types`.
const LADDER: &[(&str, &[&str])] = &[
    ("weft-types", &[]),
    ("weft-service", &[]),
    ("weft-transport-proto", &[]),
    ("weft-transport", &["weft-transport-proto"]),
    ("weft-index", &[]),
    ("weft-metadata-state", &["weft-index"]),
    ("weft-metadata-proto", &["weft-index"]),
    ("weft-metadata-client", &["weft-metadata-proto", "weft-index", "weft-transport"]),
    ("weft-metadata", &["weft-metadata-state", "weft-metadata-proto", "weft-index", "weft-transport", "weft-service"]),
    ("weft-attach", &[]),
    ("weft-gpu", &["weft-attach"]),
    ("weft-store", &["weft-attach"]),
    ("weft-node-client", &["weft-attach"]),
    ("weft-events", &[]),
    ("weft-event-feed", &["weft-events"]),
    ("weft-resp", &[]),
    (
        "weft-node",
        &[
            "weft-store",
            "weft-attach",
            "weft-events",
            "weft-event-feed",
            "weft-gpu",
            "weft-resp",
            "weft-metadata-client",
            "weft-index",
            "weft-transport",
            "weft-service",
        ],
    ),
    ("weft-policy", &["weft-index"]),
    ("weft-tokens", &[]),
    (
        "weft-router",
        &[
            "weft-policy",
            "weft-tokens",
            "weft-index",
            "weft-events",
            "weft-event-feed",
            "weft-metadata-client",
            "weft-transport",
            "weft-service",
        ],
    ),
    ("weft-engine-sim", &["weft-node-client", "weft-tokens", "weft-service"]),
    ("weft-route-sim", &["weft-policy"]),
    ("weft-kv-native", &["weft-node-client", "weft-gpu"]),
];

/// The binary and the tests may depend on anything, and nothing on them.
const TOP: &[&str] = &["weft", "weft-tidy", "weft-cluster-tests", "weft-sim-tests", "weft-gpu-driver"];

/// What tests of any crate may use besides: certificates, a real peer (or engine) to talk to, and a GPU's driver that is none.
const DEV: &[&str] = &[
    "weft-node-client",
    "weft-service",
    "weft-transport",
    "weft-metadata",
    "weft-metadata-state",
    "weft-metadata-proto",
    "weft-gpu-driver",
];

#[test]
fn dependencies_run_downhill() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(weft_tidy::root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let ladder: BTreeMap<&str, BTreeSet<&str>> =
        LADDER.iter().map(|(name, below)| (*name, below.iter().copied().collect())).collect();

    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if TOP.contains(&name) {
            continue;
        }
        let Some(allowed) = ladder.get(name) else {
            faults.push(format!("{name} is not in the ladder: add it, with what it may depend on"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let ours = on.starts_with("weft");
            let types = on == "weft-types" && name != "weft-service";
            let dev = dependency["kind"] == "dev" && DEV.contains(&on);
            if ours && !types && !dev && !allowed.contains(on) {
                faults.push(format!("{name} -> {on}: no such arrow in the ladder"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_ladder_has_no_cycle() {
    // Each crate stands below those that use it: reading the table from the top, every name was met before.
    let mut met = BTreeSet::new();
    for (name, below) in LADDER {
        for on in *below {
            assert!(met.contains(on), "{name} -> {on}: {on} must stand above {name} in the table");
        }
        met.insert(name);
    }
}
