//! What a new group makes of an old state.

use weft_index::Change;
use weft_metadata_state::{Directory, ReportAck};
use weft_types::HolderGrant;

use crate::actors::{endpoint, join, key, node, put, report, reports, sweep_all};

const LEAP: u32 = 1 << 16;

fn stored(directory: &mut Directory, grant: &HolderGrant, number: u64) -> ReportAck {
    reports(directory, vec![report(grant, number, vec![Change::Stored(key(1))])])[0]
}

#[test]
fn no_report_from_before_is_taken_whatever_was_granted_since_the_backup() {
    let mut directory = Directory::new();
    let (a, before) = (node("a", 1), join(&mut directory, &node("a", 1)));
    let device = put(&mut directory, &endpoint("e", 1, Some("a")));
    stored(&mut directory, &before[0], 1);
    let mut restored = Directory::restore(&directory.snapshot()[..]).unwrap();

    // Life goes on after the backup: lives end, numbers are granted anew, and new ones too.
    let lost: Vec<HolderGrant> = [&a, &node("b", 1), &a]
        .into_iter()
        .flat_map(|node| {
            let granted = join(&mut directory, node);
            sweep_all(&mut directory);
            granted
        })
        .collect();

    restored.begin_anew(LEAP);
    assert_eq!(restored.leading(&[key(1)]), []);
    assert!(restored.roster().nodes.is_empty() && restored.roster().holders.is_empty());
    assert_eq!(restored.roster().endpoints.len(), 1, "what is no soft state stays");
    let mut restored = Directory::restore(&restored.snapshot()[..]).unwrap();
    sweep_all(&mut restored);
    // Everybody joins again, and the same numbers are theirs again: under other generations.
    let after: Vec<HolderGrant> =
        ["a", "b", "a"].into_iter().flat_map(|name| join(&mut restored, &node(name, 1))).collect();
    for stale in before.iter().chain(&device).chain(&lost) {
        assert_eq!(stored(&mut restored, stale, 1), ReportAck::Fenced, "{stale:?}");
    }
    assert!(after.iter().all(|grant| grant.generation.get() > LEAP));
    assert_eq!(stored(&mut restored, &after[2], 1), ReportAck::Applied { number: 1 });
}
