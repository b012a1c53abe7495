//! Reports that replace and reports that continue: what puts a directory right that has missed something.

use weft_index::{Change, Digests, Match, PartitionId, Partitions, Report, ReportForm};
use weft_metadata_state::{Command, Directory, DirectoryChange, Limits, ReportAck};
use weft_types::{HolderGrant, IndexKey, LogTime};

use crate::actors::{join, node, report, reports};

const AT: LogTime = LogTime::ZERO;

/// Block `number` of a partition.
fn key(partition: u16, number: u32) -> IndexKey {
    let mut bytes = [0x5a; 16];
    bytes[..2].copy_from_slice(&(partition << 4).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    IndexKey::from_bytes(bytes)
}

fn run(first: u16, last: u16) -> Partitions {
    let at = |number| PartitionId::new(number).unwrap();
    Partitions::new(at(first), at(last)).unwrap()
}

fn stored(keys: &[IndexKey]) -> Vec<Change> {
    keys.iter().copied().map(Change::Stored).collect()
}

fn replacing(grant: &HolderGrant, number: u64, partitions: Partitions, keys: &[IndexKey]) -> Report {
    let form = ReportForm { replaces: Some(partitions), continues: false };
    Report { form, ..report(grant, number, stored(keys)) }
}

fn continuing(grant: &HolderGrant, number: u64, changes: Vec<Change>) -> Report {
    Report { form: ReportForm { replaces: None, continues: true }, ..report(grant, number, changes) }
}

fn holds(directory: &Directory, grant: &HolderGrant, key: IndexKey) -> bool {
    directory.leading(&[key]).contains(&Match { holder: grant.holder, blocks: 1 })
}

fn one_holder() -> (Directory, HolderGrant) {
    let mut directory = Directory::new();
    let grant = join(&mut directory, &node("a", 1)).remove(0);
    (directory, grant)
}

#[test]
fn what_a_report_replaces_is_what_it_says_and_nothing_else_changes() {
    let (mut directory, grant) = one_holder();
    let other = join(&mut directory, &node("b", 1)).remove(0);
    let before = [key(6, 1), key(7, 1), key(7, 2), key(8, 1), key(9, 1)];
    reports(&mut directory, vec![report(&grant, 1, stored(&before)), report(&other, 1, stored(&before))]);

    let replace = replacing(&grant, 2, run(7, 8), &[key(7, 2), key(7, 3)]);
    let applied = directory.apply(Command::Reports { at: AT, reports: vec![replace.clone()] });
    let difference = vec![Change::Removed(key(7, 1)), Change::Removed(key(8, 1)), Change::Stored(key(7, 3))];
    assert_eq!(applied.changes, [DirectoryChange::Blocks(report(&grant, 2, difference))], "as plain changes");
    let held = |key| holds(&directory, &grant, key);
    assert!(held(key(6, 1)) && held(key(7, 2)) && held(key(7, 3)) && held(key(9, 1)));
    assert!(!held(key(7, 1)) && !held(key(8, 1)));
    assert!(before.iter().all(|key| holds(&directory, &other, *key)), "what another holds is not touched");

    let acks = reports(&mut directory, vec![replacing(&grant, 3, run(7, 8), &[key(8, 1)])]);
    assert_eq!(acks, [ReportAck::Replaced { number: 3, blocks: 3 }], "two too many, one missing");
    assert_eq!(reports(&mut directory, vec![replace]), [ReportAck::Applied { number: 3 }], "sent again, it is old");
    assert!(holds(&directory, &grant, key(8, 1)));
}

#[test]
fn a_report_that_continues_leaves_a_gap_behind_and_what_is_late_is_old() {
    let (mut directory, grant) = one_holder();
    reports(&mut directory, vec![report(&grant, 1, stored(&[key(1, 1)]))]);
    let late = report(&grant, 2, stored(&[key(2, 2)]));
    assert_eq!(reports(&mut directory, vec![report(&grant, 4, vec![])]), [ReportAck::Gap { expected: 2 }]);
    let acks = reports(&mut directory, vec![continuing(&grant, 4, stored(&[key(4, 4)]))]);
    assert_eq!(acks, [ReportAck::Applied { number: 4 }]);
    assert!(holds(&directory, &grant, key(4, 4)));
    assert_eq!(reports(&mut directory, vec![late]), [ReportAck::Applied { number: 4 }]);
    assert!(!holds(&directory, &grant, key(2, 2)), "given up");
    assert_eq!(
        reports(&mut directory, vec![continuing(&grant, 3, stored(&[key(3, 3)]))]),
        [ReportAck::Applied { number: 4 }]
    );
    assert!(!holds(&directory, &grant, key(3, 3)), "it would continue from before");
    assert_eq!(reports(&mut directory, vec![report(&grant, 5, vec![])]), [ReportAck::Applied { number: 5 }]);
}

#[test]
fn a_retired_holder_replaces_and_continues_nothing() {
    let (mut directory, grant) = one_holder();
    reports(&mut directory, vec![report(&grant, 1, stored(&[key(1, 1)]))]);
    assert!(directory.digests(grant.holder, grant.generation).is_some());
    join(&mut directory, &node("a", 1));
    let late = vec![replacing(&grant, 2, run(1, 1), &[key(1, 2)]), continuing(&grant, 9, stored(&[key(1, 3)]))];
    assert_eq!(reports(&mut directory, late), [ReportAck::Fenced; 2]);
    assert_eq!(directory.digests(grant.holder, grant.generation), None);
}

#[test]
fn what_replacing_may_remove_is_bounded_by_command_and_the_next_goes_on() {
    let (mut directory, grant) = one_holder();
    let mut number = 0;
    let listed = Command::REPLACED_AWAY_MAX as u32 + 10;
    for some in (0..listed).collect::<Vec<_>>().chunks(Report::CHANGES_MAX) {
        number += 1;
        let keys: Vec<_> = some.iter().map(|at| key((at % 64) as u16, *at)).collect();
        reports(&mut directory, vec![report(&grant, number, stored(&keys))]);
    }
    let empty = |number| Command::Reports { at: AT, reports: vec![replacing(&grant, number, run(0, 63), &[])] };
    let first = directory.apply(empty(number + 1));
    let told = first.changes.iter().map(|change| match change {
        DirectoryChange::Blocks(report) => report.changes.len(),
        other => panic!("{other:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [Report::CHANGES_MAX, Report::CHANGES_MAX], "no report is longer than one may be");
    assert_eq!(directory.index().len(), 10);
    directory.apply(empty(number + 2));
    assert!(directory.index().is_empty());
}

#[test]
fn replacing_makes_room_before_it_takes_it() {
    let (mut directory, grant) = one_holder();
    let limits = Limits { blocks: 2, ..Limits::default() };
    directory.apply(Command::SetLimits { at: AT, limits });
    reports(&mut directory, vec![report(&grant, 1, stored(&[key(1, 1), key(1, 2)]))]);
    let acks = reports(&mut directory, vec![replacing(&grant, 2, run(1, 1), &[key(1, 3), key(1, 4), key(1, 5)])]);
    assert_eq!(acks, [ReportAck::Replaced { number: 2, blocks: 4 }], "two went, two of three came");
    assert_eq!(directory.refused_blocks(), 1);
}

#[test]
fn digests_are_those_of_the_last_report_applied() {
    let (mut directory, grant) = one_holder();
    let (number, listed) = directory.digests(grant.holder, grant.generation).unwrap();
    assert_eq!((number, listed.blocks()), (0, 0));
    let mut held = Digests::new();
    reports(&mut directory, vec![report(&grant, 1, stored(&[key(1, 1), key(2, 1), key(2, 2)]))]);
    reports(&mut directory, vec![report(&grant, 2, vec![Change::Removed(key(2, 1)), Change::Removed(key(9, 9))])]);
    [key(1, 1), key(2, 2)].iter().for_each(|key| held.insert(key));
    assert_eq!(directory.digests(grant.holder, grant.generation), Some((2, &held)));
}
