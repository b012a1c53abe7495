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
