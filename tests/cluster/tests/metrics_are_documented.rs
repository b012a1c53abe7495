//! `docs/metrics.md` is made from what running processes export, so that it cannot drift from them. Dashboards and alerts of
//! the chart are checked against it.
//!
//! After a change: `WRITE_METRICS_DOCS=1 cargo test -p weft-cluster-tests --test metrics_are_documented`.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;
use std::{fs, path};

use weft_cluster_tests::{Cluster, await_that, get, weft};

const HEAD: &str = "# Metrics\n\n\
    Every process exports them on its admin port, at `/metrics`. Each series is there from the start, at zero, unless its labels\n\
    say otherwise. Times are in seconds, sizes in bytes; histograms come with `_bucket`, `_sum` and `_count`. No label holds a\n\
    prompt, a key or a request, and one holds a tenant only where `keys.counted_tenants` asks for it.\n\n\
    This page is made from running processes; `tests/cluster/tests/metrics_are_documented.rs` says how.\n";

/// Labels that say which sample of a family it is, and not whose.
const OF_THE_FORMAT: &[&str] = &["le"];

#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// Families of an exposition, by name.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
        } else if let Some((sample, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|part| sample.strip_suffix(part));
            let name = name.filter(|name| families.contains_key(*name)).unwrap_or(sample);
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(label, _)| label);
            let labels = labels.filter(|label| !OF_THE_FORMAT.contains(label)).map(str::to_owned);
            families.get_mut(name).unwrap().labels.extend(labels);
        }
    }
    families
}

fn section(text: &mut String, role: &str, families: &BTreeMap<String, Family>) {
    write!(text, "\n## weft {role}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n").unwrap();
    for (name, Family { help, kind, labels }) in families {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for the developer, not configuration")]
fn metrics_docs_are_those_of_running_processes() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut text = HEAD.to_owned();
    let exported = |admin: &str| {
        let (status, exported) = get(&format!("http://{admin}/metrics")).unwrap();
        assert_eq!(status, 200, "{exported}");
        families(&exported)
    };
    for (role, host, port) in [("metadata", 11, 7401), ("node", 21, 7411), ("router", 31, 7421)] {
        section(&mut text, role, &exported(&format!("{}.{host}:{port}", cluster.subnet())));
    }

    // `weft up` has no disk tier, and no RESP door.
    let (folder, admin) = (tempfile::tempdir().unwrap(), format!("{}.29:7411", cluster.subnet()));
    let inside = |name: &str| folder.path().join(name).display().to_string();
    let sets = [
        "name=with-disk".to_owned(),
        format!("admin={admin}"),
        format!("socket={}", inside("socket/node.sock")),
        format!("state_dir={}", inside("state")),
        format!("disk.path={}", inside("disk")),
        "disk.size=16MiB".to_owned(),
        format!("resp.listen={}.29:6379", cluster.subnet()),
    ];
    let mut node =
        Command::new(weft()).arg("node").args(sets.iter().map(|set| format!("--set={set}"))).spawn().unwrap();
    let up = await_that("the node answers", || Ok(get(&format!("http://{admin}/live")).ok()));
    let (mut with_disk, without) = (exported(&admin), exported(&format!("{}.21:7411", cluster.subnet())));
    node.kill().unwrap();
    node.wait().unwrap();
    up.unwrap();
    with_disk.retain(|name, _| !without.contains_key(name));
    section(&mut text, "node with a disk tier and a RESP door, besides", &with_disk);

    let path = path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var("WRITE_METRICS_DOCS").is_ok() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/metrics.md is behind the processes: see the top of this test\n{text}");
}
