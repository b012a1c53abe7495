//! Leases: within a budget of distinct blocks, until their end in log time, whoever sends what twice.

use std::time::Duration;

use weft_metadata_state::{Applied, Command, Directory, DirectoryChange, Limits, Outcome};
use weft_types::{LeaseId, LogTime, Operated, OperatorAction};

use crate::actors::{ask, ask_at, grant_lease, operator, put_tenant, refusal};

const SECOND: u64 = 1_000_000;

fn leased(applied: Applied) -> (LeaseId, LogTime) {
    match applied.outcome {
        Outcome::Operated(Operated::Leased { lease, until }) => (lease, until),
        other => panic!("a lease expected, got {other:?}"),
    }
}

fn grant(directory: &mut Directory, blocks: impl IntoIterator<Item = u8>) -> LeaseId {
    leased(ask_at(directory, 0, grant_lease("acme", blocks, 60))).0
}

fn with_tenant(lease_blocks_max: u32) -> Directory {
    let mut directory = Directory::new();
    ask(&mut directory, put_tenant("acme", lease_blocks_max));
    directory
}

fn pinned(directory: &Directory) -> usize {
    directory.accounts().leases().pinned_by(&"acme".parse().unwrap())
}

fn expire(directory: &mut Directory, micros: u64) -> Vec<LeaseId> {
    let applied = directory.apply(Command::ExpireLeases { at: LogTime::from_micros(micros) });
    let ended = applied.changes.into_iter().map(|change| match change {
        DirectoryChange::Lease(id, None) => id,
        other => panic!("an ended lease expected, got {other:?}"),
    });
    ended.collect()
}

#[test]
fn a_budget_counts_distinct_blocks_and_a_refusal_shows_both_sides() {
    let mut directory = with_tenant(5);
    let first = grant(&mut directory, 1..=3);
    let overlapping = grant(&mut directory, 1..=5);
    assert_eq!(pinned(&directory), 5);
    let said = refusal(ask_at(&mut directory, 0, grant_lease("acme", 4..=6, 60)));
    assert!(said.contains("3 blocks asked, 1 of them not pinned yet; tenant acme has 5 of at most 5 pinned"), "{said}");

    ask(&mut directory, OperatorAction::ReleaseLease { lease: overlapping });
    assert_eq!(pinned(&directory), 3, "what the other lease pins stays pinned");
    ask(&mut directory, OperatorAction::ReleaseLease { lease: first });
    assert_eq!((pinned(&directory), directory.accounts().leases().blocks()), (0, 0));
    let said = refusal(ask_at(&mut directory, 0, OperatorAction::ReleaseLease { lease: first }));
    assert!(said.contains("no lease 1"), "{said}");
    assert_eq!(grant(&mut directory, [7, 7, 7]), LeaseId::new(3), "numbers are not used again");
    assert_eq!(pinned(&directory), 1);
}

#[test]
fn a_grant_that_is_sent_twice_is_granted_once_even_when_it_has_ended_meanwhile() {
    let mut directory = with_tenant(5);
    let sent = operator(0, 77, grant_lease("acme", 1..=3, 60));
    let first = directory.apply(sent.clone());
    let again = directory.apply(sent.clone());
    assert_eq!((&again.outcome, again.changes.len()), (&first.outcome, 0));
    assert_eq!(directory.accounts().leases().all().len(), 1);

    ask(&mut directory, OperatorAction::ReleaseLease { lease: leased(first).0 });
    assert!(directory.apply(sent).changes.is_empty());
    assert!(directory.accounts().leases().all().is_empty(), "a copy that was late must not bring it back");
    let said = refusal(directory.apply(operator(0, 77, grant_lease("acme", 1..=4, 60))));
    assert!(said.contains("request 77 was 'pin 3 blocks"), "{said}");
}

#[test]
fn a_lease_lasts_until_its_end_and_a_renewal_only_lengthens_it() {
    let mut directory = with_tenant(9);
    let (short, until) = leased(ask_at(&mut directory, 5 * SECOND, grant_lease("acme", [1], 10)));
    assert_eq!(until, LogTime::from_micros(15 * SECOND));
    let (long, _) = leased(ask_at(&mut directory, 5 * SECOND, grant_lease("acme", [2], 20)));
    assert_eq!(directory.accounts().leases().next_end(), Some(until));
    assert_eq!(expire(&mut directory, 14 * SECOND), []);

    let renew = |ttl| OperatorAction::RenewLease { lease: short, ttl: Duration::from_secs(ttl) };
    let (_, renewed) = leased(ask_at(&mut directory, 14 * SECOND, renew(16)));
    assert_eq!(renewed, LogTime::from_micros(30 * SECOND));
    let (_, still) = leased(ask_at(&mut directory, 14 * SECOND, renew(1)));
    assert_eq!(still, renewed, "a copy of an earlier renewal takes nothing back");
    assert_eq!(expire(&mut directory, 29 * SECOND), [long]);
    assert_eq!(expire(&mut directory, 30 * SECOND), [short]);
    assert_eq!((pinned(&directory), directory.accounts().leases().next_end()), (0, None));
    let said = refusal(ask_at(&mut directory, 0, renew(10)));
    assert!(said.contains("no lease 1"), "{said}");
}

#[test]
fn a_tenant_takes_its_leases_with_it() {
    let mut directory = with_tenant(9);
    let lease = grant(&mut directory, 1..=3);
    ask(&mut directory, put_tenant("other", 9));
    let kept = leased(ask_at(&mut directory, 0, grant_lease("other", 1..=3, 60))).0;
    let gone = ask_at(&mut directory, 0, OperatorAction::RemoveTenant { tenant: "acme".parse().unwrap() });
    assert_eq!(gone.changes[0], DirectoryChange::Lease(lease, None));
    assert_eq!(directory.accounts().leases().all().keys().collect::<Vec<_>>(), [&kept]);
}

#[test]
fn leases_are_bounded_each_and_together() {
    let mut directory = with_tenant(100);
    for blocks in [0..0, 0..0] {
        let said = refusal(ask_at(&mut directory, 0, grant_lease("acme", blocks, 60)));
        assert!(said.contains("a lease on 0 blocks"), "{said}");
    }
    for seconds in [0, 31 * 24 * 3600] {
        let said = refusal(ask_at(&mut directory, 0, grant_lease("acme", [1], seconds)));
        assert!(said.contains("expected 1 second to 30 days"), "{said}");
    }
    let limits = Limits { leases: 2, leased_blocks: 6, ..Limits::default() };
    directory.apply(Command::SetLimits { at: LogTime::ZERO, limits });
    grant(&mut directory, 1..=5);
    let said = refusal(ask_at(&mut directory, 0, grant_lease("acme", 1..=2, 60)));
    assert!(said.contains("2 blocks asked, 5 of at most 6 are leased"), "{said}");
    grant(&mut directory, [1]);
    let said = refusal(ask_at(&mut directory, 0, grant_lease("acme", [1], 60)));
    assert!(said.contains("2 leases are granted"), "{said}");
}

#[test]
fn one_command_ends_a_bounded_number_of_blocks() {
    let mut directory = with_tenant(200_000);
    let prefix: Vec<_> = (0..40_000u32)
        .map(|number| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            weft_types::IndexKey::from_bytes(bytes)
        })
        .collect();
    for _ in 0..4 {
        let (tenant, ttl) = ("acme".parse().unwrap(), Duration::from_secs(1));
        leased(ask_at(&mut directory, 0, OperatorAction::GrantLease { tenant, prefix: prefix.clone(), ttl }));
    }
    let ended = |directory: &mut Directory| expire(directory, 2 * SECOND).iter().map(|id| id.get()).collect::<Vec<_>>();
    assert_eq!(ended(&mut directory), [1, 2], "65,536 blocks, and the rest of the lease that reaches them");
    assert_eq!(ended(&mut directory), [3, 4]);
    assert_eq!(ended(&mut directory), [0; 0]);
}
