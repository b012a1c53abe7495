//! The directory's rules, one by one.

use crate::actors::{contract, endpoint, grants, join, key, node, put, refusal, report, reports, sweep_all};
use weft_index::{Change, Match};
use weft_metadata_state::{Command, Directory, DirectoryChange, Limits, Outcome, ReportAck};
use weft_types::{Generation, HolderId, HolderKey, Incarnation, LogTime, Tier};

const AT: LogTime = LogTime::ZERO;

fn stored(directory: &mut Directory, grant: &weft_types::HolderGrant, number: u64, blocks: &[u8]) -> ReportAck {
    let changes = blocks.iter().map(|n| Change::Stored(key(*n))).collect();
    reports(directory, vec![report(grant, number, changes)])[0]
}

#[test]
fn a_join_grants_one_holder_a_tier_and_lookups_name_it() {
    let mut directory = Directory::new();
    let granted = join(&mut directory, &node("a", 1));
    let keys: Vec<HolderKey> = granted.iter().map(|grant| grant.key.clone()).collect();
    let tier = |tier| HolderKey::Node { node: "a".parse().unwrap(), tier };
    assert_eq!(keys, [tier(Tier::Host), tier(Tier::Disk)]);
    assert_eq!(stored(&mut directory, &granted[0], 1, &[1, 2]), ReportAck::Applied { number: 1 });
    assert_eq!(directory.leading(&[key(1), key(2), key(3)]), [Match { holder: granted[0].holder, blocks: 2 }]);
}

#[test]
fn an_earlier_incarnation_is_refused_and_changes_nothing() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 5));
    put(&mut directory, &endpoint("e", 5, Some("a")));
    let before = directory.snapshot();
    let said = refusal(directory.apply(Command::Join { at: AT, node: node("a", 4) }));
    assert!(said.contains("node a joins as incarnation 4") && said.contains("incarnation 5"), "{said}");
    let said = refusal(directory.apply(Command::PutEndpoint { at: AT, endpoint: endpoint("e", 4, Some("a")) }));
    assert!(said.contains("endpoint e comes as incarnation 4"), "{said}");
    assert_eq!(directory.snapshot(), before);
}

#[test]
fn joining_again_under_the_same_incarnation_starts_over() {
    let mut directory = Directory::new();
    let first = join(&mut directory, &node("a", 1));
    stored(&mut directory, &first[0], 1, &[1]);
    let second = join(&mut directory, &node("a", 1));
    assert_eq!(directory.leading(&[key(1)]), [], "what was reported before is gone at once");
    assert_ne!(first[0].holder, second[0].holder, "a number that is not swept is not granted");
    assert_eq!(stored(&mut directory, &first[0], 2, &[2]), ReportAck::Fenced);
    assert_eq!(stored(&mut directory, &second[0], 1, &[1]), ReportAck::Applied { number: 1 });
}

#[test]
fn a_number_is_granted_again_only_after_the_sweep_and_as_another_life() {
    let mut directory = Directory::new();
    let first = join(&mut directory, &node("a", 1));
    stored(&mut directory, &first[0], 1, &[1, 2, 3]);
    directory.apply(Command::Expire { at: AT, node: first_node(), incarnation: Incarnation::new(1) });
    assert!(directory.sweep_due());

    let unswept = join(&mut directory, &node("b", 1));
    assert!(unswept.iter().all(|grant| first.iter().all(|old| old.holder != grant.holder)));

    sweep_all(&mut directory);
    assert!(directory.index().is_empty());
    let again = join(&mut directory, &node("a", 1));
    assert_eq!(again[0].holder, first[0].holder);
    assert_eq!(again[0].generation, first[0].generation.next());
    assert_eq!(stored(&mut directory, &first[0], 2, &[9]), ReportAck::Fenced, "a late report of the former life");
    assert_eq!(directory.leading(&[key(9)]), []);
}

fn first_node() -> weft_types::NodeId {
    "a".parse().unwrap()
}

#[test]
fn reports_are_applied_once_and_in_order() {
    let mut directory = Directory::new();
    let grant = join(&mut directory, &node("a", 1)).remove(0);
    assert_eq!(stored(&mut directory, &grant, 2, &[2]), ReportAck::Gap { expected: 1 });
    assert_eq!(stored(&mut directory, &grant, 1, &[1]), ReportAck::Applied { number: 1 });
    assert_eq!(stored(&mut directory, &grant, 2, &[2]), ReportAck::Applied { number: 2 });
    // Sent again with other contents, as a bug would: what was applied under the number stays.
    assert_eq!(stored(&mut directory, &grant, 1, &[7]), ReportAck::Applied { number: 2 });
    assert_eq!(directory.leading(&[key(7)]), []);

    let batch = [3, 4, 6].map(|n| report(&grant, n, vec![Change::Stored(key(n as u8))])).to_vec();
    let acks = reports(&mut directory, batch);
    let applied = |number| ReportAck::Applied { number };
    assert_eq!(acks, [applied(3), applied(4), ReportAck::Gap { expected: 5 }]);
}

#[test]
fn a_report_under_another_generation_incarnation_or_number_is_fenced() {
    let mut directory = Directory::new();
    let grant = join(&mut directory, &node("a", 1)).remove(0);
    let mut other = [grant.clone(), grant.clone(), grant.clone()];
    other[0].generation = grant.generation.next();
    other[1].incarnation = Incarnation::new(2);
    other[2].holder = HolderId::new(99);
    for wrong in other {
        assert_eq!(stored(&mut directory, &wrong, 1, &[1]), ReportAck::Fenced, "{wrong:?}");
    }
    assert!(directory.index().is_empty());
}

#[test]
fn followers_hear_only_what_took_effect() {
    let mut directory = Directory::new();
    let grant = join(&mut directory, &node("a", 1)).remove(0);
    stored(&mut directory, &grant, 1, &[1]);
    let again = vec![Change::Stored(key(1)), Change::Stored(key(2)), Change::Removed(key(3))];
    let command = Command::Reports { at: AT, reports: vec![report(&grant, 2, again)] };
    let effective = report(&grant, 2, vec![Change::Stored(key(2))]);
    assert_eq!(directory.apply(command.clone()).changes, [DirectoryChange::Blocks(effective)]);
    assert_eq!(directory.apply(command).changes, [], "a report sent again changes nothing");
}

#[test]
fn a_node_that_goes_takes_its_holders_and_its_devices_and_leaves_its_endpoints_listed() {
    for leaves in [true, false] {
        let mut directory = Directory::new();
        let tiers = join(&mut directory, &node("a", 1));
        join(&mut directory, &node("b", 1));
        let here = put(&mut directory, &endpoint("here", 1, Some("a")));
        let there = put(&mut directory, &endpoint("there", 1, Some("b")));
        for grant in [&tiers[0], &here[0], &here[1], &there[0]] {
            stored(&mut directory, grant, 1, &[1]);
        }
        let (node, incarnation) = (first_node(), Incarnation::new(1));
        directory.apply(match leaves {
            true => Command::Leave { at: AT, node, incarnation },
            false => Command::Expire { at: AT, node, incarnation },
        });
        assert_eq!(directory.leading(&[key(1)]), [Match { holder: there[0].holder, blocks: 1 }]);
        assert!(!directory.roster().nodes.contains_key(&first_node()));
        assert_eq!(directory.roster().endpoints.len(), 2);

        // Back again, its engines attach again.
        join(&mut directory, &self::node("a", 2));
        let again = put(&mut directory, &endpoint("here", 1, Some("a")));
        assert_eq!(stored(&mut directory, &again[0], 1, &[1]), ReportAck::Applied { number: 1 });
    }
}

#[test]
fn a_restarted_daemon_fences_its_devices_and_a_resync_does_not() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 1));
    let device = put(&mut directory, &endpoint("e", 1, Some("a"))).remove(0);
    stored(&mut directory, &device, 1, &[1]);
    join(&mut directory, &node("a", 1));
    assert_eq!(directory.leading(&[key(1)]).len(), 1, "its tiers are resynchronised, the device is not touched");
    join(&mut directory, &node("a", 2));
    assert_eq!(directory.leading(&[key(1)]), [], "nobody reports for the device until its engine attaches again");
}

#[test]
fn what_ends_one_life_does_not_touch_another() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 2));
    put(&mut directory, &endpoint("e", 2, Some("a")));
    let before = directory.snapshot();
    for incarnation in [1, 3].map(Incarnation::new) {
        let endpoint = "e".parse().unwrap();
        for command in [
            Command::Expire { at: AT, node: first_node(), incarnation },
            Command::Leave { at: AT, node: first_node(), incarnation },
            Command::RemoveEndpoint { at: AT, endpoint, incarnation: Incarnation::new(1) },
        ] {
            let applied = directory.apply(command);
            assert_eq!((applied.outcome, applied.changes), (Outcome::Done, vec![]));
        }
    }
    assert_eq!(directory.snapshot(), before);
}

#[test]
fn a_life_of_an_endpoint_that_was_never_put_takes_the_one_before_with_it() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 1));
    put(&mut directory, &endpoint("e", 2, Some("a")));
    directory.apply(Command::RemoveEndpoint {
        at: AT,
        endpoint: "e".parse().unwrap(),
        incarnation: Incarnation::new(3),
    });
    assert!(directory.roster().endpoints.is_empty());
}

#[test]
fn an_endpoint_has_a_device_holder_a_rank_and_needs_its_node() {
    let mut directory = Directory::new();
    let said = refusal(directory.apply(Command::PutEndpoint { at: AT, endpoint: endpoint("e", 1, Some("a")) }));
    assert!(said.contains("node a, which has not joined"), "{said}");
    let without = put(&mut directory, &endpoint("e", 1, None));
    let rank = |rank| HolderKey::Device { endpoint: "e".parse().unwrap(), rank };
    assert_eq!(without.iter().map(|grant| grant.key.clone()).collect::<Vec<_>>(), [rank(0), rank(1)]);
    for ranks in [0, 257] {
        let mut bad = endpoint("f", 1, None);
        bad.ranks = ranks;
        let said = refusal(directory.apply(Command::PutEndpoint { at: AT, endpoint: bad }));
        assert!(said.contains("expected 1 to 256"), "{said}");
    }
    let endpoint = "e".parse().unwrap();
    directory.apply(Command::RemoveEndpoint { at: AT, endpoint, incarnation: Incarnation::new(1) });
    assert!(directory.roster().endpoints.is_empty() && directory.roster().holders.is_empty());
}

#[test]
fn a_contract_binds_while_somebody_serves_it() {
    let mut directory = Directory::new();
    put(&mut directory, &endpoint("first", 1, None));
    let mut other = endpoint("second", 1, None);
    other.contracts[0].parts[0].bytes += 1;
    let before = directory.snapshot();
    let applied = directory.apply(Command::PutEndpoint { at: AT, endpoint: other.clone() });
    let Outcome::Conflict(conflict) = applied.outcome else { panic!("{:?}", applied.outcome) };
    assert_eq!(conflict.field, "parts");
    assert!(conflict.agreed.contains("bytes: 4096") && conflict.offered.contains("bytes: 4097"), "{conflict}");
    assert_eq!(directory.snapshot(), before);

    // The one that agreed is gone: the other may set the contract now, and may come back with a new one itself.
    let first = "first".parse().unwrap();
    let removed = Command::RemoveEndpoint { at: AT, endpoint: first, incarnation: Incarnation::new(1) };
    assert!(directory.apply(removed).changes.contains(&DirectoryChange::Contracts(vec![])));
    put(&mut directory, &other);
    other.contracts[0].parts[0].bytes += 1;
    put(&mut directory, &other);
    assert_eq!(directory.roster().contracts, other.contracts);
}

#[test]
fn agreeing_contracts_add_up() {
    let mut directory = Directory::new();
    put(&mut directory, &endpoint("first", 1, None));
    let mut second = endpoint("second", 1, None);
    second.contracts[0].aliases = vec!["other-name".into()];
    second.contracts[0].tokenizer = "abc".into();
    put(&mut directory, &second);
    let mut agreed = contract();
    agreed.aliases.push("other-name".into());
    agreed.tokenizer = "abc".into();
    assert_eq!(directory.roster().contracts, [agreed]);
}

#[test]
fn a_full_directory_refuses_new_blocks_and_counts_them() {
    let mut directory = Directory::new();
    let limits = Limits { blocks: 2, ..Limits::default() };
    directory.apply(Command::SetLimits { at: AT, limits });
    let host = join(&mut directory, &node("a", 1)).remove(0);
    let other = join(&mut directory, &node("b", 1)).remove(0);
    stored(&mut directory, &host, 1, &[1, 2, 3]);
    assert_eq!((directory.index().len(), directory.refused_blocks()), (2, 1));
    stored(&mut directory, &other, 1, &[1]);
    assert_eq!(directory.refused_blocks(), 1, "another holder of a known block is no new block");
    let swap = vec![Change::Removed(key(2)), Change::Stored(key(3))];
    reports(&mut directory, vec![report(&host, 2, swap)]);
    assert_eq!((directory.index().contains(&key(3)), directory.refused_blocks()), (true, 1));
}

#[test]
fn names_and_numbers_are_bounded() {
    let mut directory = Directory::new();
    let limits = Limits { nodes: 2, endpoints: 1, holders: 7, ..Limits::default() };
    directory.apply(Command::SetLimits { at: AT, limits });
    join(&mut directory, &node("a", 1));
    join(&mut directory, &node("b", 1));
    let said = refusal(directory.apply(Command::Join { at: AT, node: node("c", 1) }));
    assert!(said.contains("2 nodes have joined"), "{said}");
    put(&mut directory, &endpoint("e", 1, None));
    let said = refusal(directory.apply(Command::PutEndpoint { at: AT, endpoint: endpoint("f", 1, None) }));
    assert!(said.contains("1 endpoints are listed"), "{said}");
    // 2 nodes × 2 tiers + 2 ranks = 6 of 7 numbers are out.
    let said = refusal(directory.apply(Command::Join { at: AT, node: node("a", 2) }));
    assert!(said.contains("2 holder numbers wanted, 1 free of 7"), "{said}");
    directory.apply(Command::Expire { at: AT, node: "b".parse().unwrap(), incarnation: Incarnation::new(1) });
    sweep_all(&mut directory);
    join(&mut directory, &node("a", 2));
    let said = refusal(directory.apply(Command::SetLimits { at: AT, limits: Limits { holders: 1 << 20, ..limits } }));
    assert!(said.contains("above what one message holds"), "{said}");
}

#[test]
fn descriptions_are_bounded_as_a_whole() {
    let mut directory = Directory::new();
    let mut wordy = node("a", 1);
    wordy.labels.insert("why".into(), "x".repeat(1 << 20));
    join(&mut directory, &wordy);
    join(&mut directory, &wordy);
    let mut second = wordy.clone();
    second.id = "b".parse().unwrap();
    let said = refusal(directory.apply(Command::Join { at: AT, node: second.clone() }));
    assert!(said.contains("shorten labels"), "{said}");
    directory.apply(Command::Leave { at: AT, node: first_node(), incarnation: Incarnation::new(1) });
    grants(directory.apply(Command::Join { at: AT, node: second }));
}

#[test]
fn log_time_never_moves_back() {
    let mut directory = Directory::new();
    for at in [7, 3, 9, 8] {
        directory.apply(Command::Sweep { at: LogTime::from_micros(at), budget: 1 });
    }
    assert_eq!(directory.log_time(), LogTime::from_micros(9));
}

#[test]
fn first_generation_is_one() {
    // The protocol may use 0 for "none".
    assert_eq!(join(&mut Directory::new(), &node("a", 1))[0].generation, Generation::new(1));
}
