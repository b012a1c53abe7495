//! Entries of the replicated log: refused, or applied by every member alike; what comes of them survives a snapshot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_metadata_state::{Command, Directory};

/// Entries of one log: enough for a join, an endpoint, tenants, leases and reports.
const ENTRIES_MAX: usize = 32;

fuzz_target!(|entries: Vec<&[u8]>| {
    let (mut one, mut other) = (Directory::new(), Directory::new());
    for (index, bytes) in (1..).zip(entries.into_iter().take(ENTRIES_MAX)) {
        let Ok(command) = Command::decode(bytes) else { continue };
        assert_eq!(Command::decode(&command.encode()).expect("what was encoded is decoded"), command);
        one.apply_at(index, command.clone());
        other.apply_at(index, command);
    }
    assert_eq!(one.fingerprint(), other.fingerprint());
    let snapshot = one.snapshot();
    let restored = Directory::restore(&snapshot[..]).expect("a member reads its own snapshot");
    assert_eq!(restored.fingerprint(), one.fingerprint());
});
