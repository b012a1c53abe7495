//! What operators ask for is remembered; certificates are revoked and endpoints removed for good.

use weft_metadata_state::{Directory, DirectoryChange};
use weft_types::{AuditEntry, AuditOutcome, OperatorAction, Serial};

use crate::actors::{ask, ask_at, endpoint, grant_lease, join, node, operator, put, put_tenant, refusal};

fn note(number: u64) -> OperatorAction {
    OperatorAction::Note { what: format!("note {number}") }
}

#[test]
fn every_request_is_remembered_with_who_when_what_and_what_came_of_it() {
    let mut directory = Directory::new();
    directory.apply_at(41, operator(5, 1, put_tenant("acme", 2)));
    directory.apply_at(42, operator(6, 2, grant_lease("acme", 1..=3, 60)));
    directory.apply_at(43, operator(7, 3, grant_lease("acme", 1..=2, 60)));
    let lines: Vec<String> = directory
        .accounts()
        .audit()
        .map(|entry| {
            format!("{} {} {} {} -> {}", entry.index, entry.at.as_micros(), entry.by, entry.what, entry.outcome)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "41 5 admin/ops put tenant acme: weight 100, 2 lease blocks, quota unlimited -> done",
            "42 6 admin/ops pin 3 blocks for tenant acme for 60s -> refused: 3 blocks asked, 3 of them not pinned yet; \
             tenant acme has 0 of at most 2 pinned: release some, or raise its budget with `weft tenant set-lease-blocks`",
            "43 7 admin/ops pin 2 blocks for tenant acme for 60s -> lease 1 until 60.000s",
        ]
    );
}

#[test]
fn the_audit_is_bounded_and_survives_a_snapshot() {
    let mut directory = Directory::new();
    let count = AuditEntry::KEPT_MAX as u64 + 5;
    for number in 1..=count {
        directory.apply_at(number, operator(number, number, note(number)));
    }
    let first = directory.accounts().audit().next().unwrap().clone();
    assert_eq!((first.index, directory.accounts().audit().len()), (6, AuditEntry::KEPT_MAX));
    assert_eq!(first.outcome, AuditOutcome::Done);
    let restored = Directory::restore(&directory.snapshot()[..]).unwrap();
    assert_eq!(restored.accounts(), directory.accounts());
}

#[test]
fn a_certificate_is_revoked_once_and_reinstated() {
    let mut directory = Directory::new();
    let serial: Serial = "5f:03".parse().unwrap();
    let revoke = |reason: &str| OperatorAction::Revoke { serial: "5f03".parse().unwrap(), reason: reason.to_owned() };
    let changes = ask_at(&mut directory, 3, revoke("laptop lost")).changes;
    assert_eq!(changes, [DirectoryChange::Revoked(serial.clone(), true)]);
    assert_eq!(ask_at(&mut directory, 4, revoke("again")).changes, []);
    assert_eq!(directory.accounts().revoked()[&serial].reason, "laptop lost");
    let said = refusal(ask_at(&mut directory, 4, revoke(&"x".repeat(201))));
    assert!(said.contains("201 bytes: at most 200"), "{said}");
    let reinstate = OperatorAction::Reinstate { serial: serial.clone() };
    let changes = ask_at(&mut directory, 5, reinstate.clone()).changes;
    assert_eq!(changes, [DirectoryChange::Revoked(serial, false)]);
    let said = refusal(ask_at(&mut directory, 5, reinstate));
    assert!(said.contains("5f03 is not revoked"), "{said}");
}

#[test]
fn a_host_that_is_gone_is_removed_with_all_that_is_listed_of_it_and_again_for_nothing() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 1));
    join(&mut directory, &node("b", 1));
    put(&mut directory, &endpoint("e", 3, Some("a")));
    put(&mut directory, &endpoint("f", 3, Some("b")));
    let remove = OperatorAction::RemoveNode { node: "a".parse().unwrap() };
    assert_ne!(ask_at(&mut directory, 1, remove.clone()).changes, []);
    let roster = directory.roster();
    let names = |listed: Vec<String>| listed.join(" ");
    assert_eq!(names(roster.nodes.keys().map(ToString::to_string).collect()), "b");
    assert_eq!(names(roster.endpoints.keys().map(ToString::to_string).collect()), "f");
    let of_b = |grant: &weft_types::HolderGrant| match &grant.key {
        weft_types::HolderKey::Node { node, .. } => node.to_string() == "b",
        weft_types::HolderKey::Device { endpoint, .. } => endpoint.to_string() == "f",
    };
    assert!(!roster.holders.is_empty() && roster.holders.values().all(of_b), "{roster:?}");
    assert_eq!(ask_at(&mut directory, 2, remove).changes, [], "nothing is left to remove");

    // One whose node went by itself: the endpoints that stayed listed go.
    let leave = weft_metadata_state::Command::Leave {
        at: weft_types::LogTime::ZERO,
        node: "b".parse().unwrap(),
        incarnation: weft_types::Incarnation::new(1),
    };
    directory.apply(leave);
    assert_eq!(directory.roster().endpoints.len(), 1);
    ask(&mut directory, OperatorAction::RemoveNode { node: "b".parse().unwrap() });
    assert!(directory.roster().endpoints.is_empty());
}

#[test]
fn an_endpoint_is_removed_for_good_only_once_its_node_is_gone() {
    let mut directory = Directory::new();
    join(&mut directory, &node("a", 1));
    put(&mut directory, &endpoint("e", 3, Some("a")));
    let remove = OperatorAction::RemoveEndpoint { endpoint: "e".parse().unwrap() };
    let said = refusal(ask_at(&mut directory, 0, remove.clone()));
    assert!(said.contains("endpoint e is at node a, which is here"), "{said}");
    let (node, incarnation) = ("a".parse().unwrap(), weft_types::Incarnation::new(1));
    directory.apply(weft_metadata_state::Command::Leave { at: weft_types::LogTime::ZERO, node, incarnation });
    ask(&mut directory, remove.clone());
    assert!(directory.roster().endpoints.is_empty());
    let said = refusal(ask_at(&mut directory, 0, remove));
    assert!(said.contains("no endpoint e is listed"), "{said}");
}
