//! The shape of the code: size of files, opening docs, lints in force, one address for unsafe code.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};

/// No file over this: beyond it a file is more than one idea.
const LINES_MAX: usize = 1000;

/// What may lift `unsafe_code`: shared memory, the GPU's driver (and what stands in for it), and the buffers and streams that
/// Python lends us.
const UNSAFE: &[&str] =
    &["node/attach", "node/gpu", "tests/gpu-driver", "connectors/native/src/buffer.rs", "connectors/native/src/gpu.rs"];

/// Crates without runtime, clock or I/O; each has the stricter clippy.toml.
const PURE: &[&str] = &[
    "types",
    "transport/proto",
    "metadata/index",
    "metadata/state",
    "metadata/proto",
    "node/events",
    "node/resp",
    "router/policy",
];

fn sources() -> Vec<(PathBuf, String)> {
    let files = weft_tidy::files().into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs"));
    files.map(|file| (file.clone(), fs::read_to_string(weft_tidy::root().join(&file)).unwrap())).collect()
}

#[test]
fn no_file_is_more_than_one_idea() {
    for (file, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines, at most {LINES_MAX}: split it by idea", file.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (file, text) in sources() {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} opens with '{first}', expected //! docs", file.display());
    }
}

#[test]
fn no_file_has_a_vague_name() {
    for (file, _) in sources() {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let vague = ["utils", "util", "common", "helpers", "helper", "misc"].contains(&stem);
        assert!(!vague, "{}: name it after its idea", file.display());
        assert!(stem != "mod", "{}: foo.rs beside foo/, never mod.rs", file.display());
    }
}

#[test]
fn unsafe_code_has_one_address() {
    for (file, text) in sources() {
        let lifts = text.contains("expect(unsafe_code") || text.contains("allow(unsafe_code");
        let home = UNSAFE.iter().any(|home| file.starts_with(home)) || file.starts_with("tests/tidy");
        assert!(!lifts || home, "{} lifts unsafe_code; only {UNSAFE:?} may", file.display());
    }
}

#[test]
fn every_crate_inherits_the_lints() {
    for file in weft_tidy::files() {
        if file.file_name().is_some_and(|name| name == "Cargo.toml") && file != Path::new("Cargo.toml") {
            let manifest: toml::Table = fs::read_to_string(weft_tidy::root().join(&file)).unwrap().parse().unwrap();
            if manifest.contains_key("workspace") {
                // A workspace of its own has none to inherit.
                continue;
            }
            let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")) == Some(&true.into());
            assert!(inherits, "{}: add [lints] workspace = true", file.display());
        }
    }
}

#[test]
fn pure_crates_have_the_stricter_lints() {
    let strict = fs::read_to_string(weft_tidy::root().join("clippy.pure.toml")).unwrap();
    for home in PURE {
        let path = weft_tidy::root().join(home).join("clippy.toml");
        let own = fs::read_to_string(&path).unwrap_or_default();
        assert!(own == strict, "{home}/clippy.toml must be a link to clippy.pure.toml");
    }
}
