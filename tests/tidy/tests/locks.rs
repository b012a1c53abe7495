//! `bench/index` has a lock file of its own, which no build of the workspace looks at: it must still fit.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::fs;

fn table(path: &str) -> toml::Table {
    fs::read_to_string(weft_tidy::root().join(path)).unwrap().parse().unwrap()
}

/// What a crate needs, by its manifest, with no feature of it switched on.
fn wanted(manifest: &str) -> BTreeSet<String> {
    let needs = |wants: &toml::Value| wants.get("optional").and_then(toml::Value::as_bool) != Some(true);
    let manifest = table(manifest);
    let dependencies = manifest["dependencies"].as_table().unwrap().iter();
    dependencies.filter(|(_, wants)| needs(wants)).map(|(name, _)| name.clone()).collect()
}

/// What it had when the lock file was written. Where there are several versions of a crate, one follows its name.
fn locked(lock: &toml::Table, name: &str) -> BTreeSet<String> {
    let packages = lock["package"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"].as_str() == Some(name)).unwrap();
    let names = package["dependencies"].as_array().unwrap().iter();
    names.map(|dependency| dependency.as_str().unwrap().split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn the_lock_file_of_the_index_bench_fits_our_crates() {
    let lock = table("bench/index/Cargo.lock");
    for (name, manifest) in [("weft-index", "metadata/index/Cargo.toml"), ("weft-types", "types/Cargo.toml")] {
        assert_eq!(
            locked(&lock, name),
            wanted(manifest),
            "bench/index/Cargo.lock is of another {name}: run `cargo check --manifest-path bench/index/Cargo.toml`"
        );
    }
}
