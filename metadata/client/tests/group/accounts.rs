//! A follower keeps tenants and leases as the directory has them, from a snapshot and from changes.

use std::time::Duration;

use weft_metadata_client::Accounts;
use weft_metadata_state::{Command, Outcome};
use weft_types::{Asker, IndexKey, LeaseId, LogTime, OperatorAction, RequestId, Role, Salt, TenantSettings};

use crate::service::{Group, SOON, metrics};

fn operate(group: &Group, number: u64, action: OperatorAction) {
    let by = Asker { role: Role::Admin, name: "ops".parse().unwrap() };
    let (request, salt) = (RequestId::new(number), Salt::from_bytes([7; 32]));
    let outcome = group.apply(Command::Operator { at: LogTime::ZERO, by, request, salt, action });
    assert!(matches!(outcome, Outcome::Operated(_)), "{outcome:?}");
}

fn expected(group: &Group) -> Accounts {
    let (_, directory) = group.directory();
    let accounts = directory.accounts();
    Accounts {
        tenants: accounts.tenants().all().clone(),
        groups: accounts.tenants().groups().clone(),
        leases: accounts.leases().all().clone(),
        revoked: accounts.revoked().keys().cloned().collect(),
    }
}

#[tokio::test]
async fn a_follower_has_the_accounts_of_the_directory() {
    let group = Group::start(1);
    let settings = TenantSettings::default();
    let put = |name: &str| OperatorAction::PutTenant {
        tenant: name.parse().unwrap(),
        settings: settings.clone(),
        unsalted: false,
    };
    let grant = |first: u8| OperatorAction::GrantLease {
        tenant: "acme".parse().unwrap(),
        prefix: vec![IndexKey::from_bytes([first; 16])],
        ttl: Duration::from_secs(60),
    };
    operate(&group, 1, put("acme"));
    operate(&group, 2, grant(1));
    let follower = group.client(Role::Router, &[0]).follow(None, metrics().0);
    tokio::time::timeout(SOON, follower.warm()).await.unwrap();
    assert_eq!(*follower.accounts(), expected(&group));

    operate(&group, 3, put("other"));
    operate(&group, 4, grant(2));
    operate(&group, 5, OperatorAction::ReleaseLease { lease: LeaseId::new(1) });
    operate(&group, 6, OperatorAction::Revoke { serial: "5f".parse().unwrap(), reason: String::new() });
    let (index, _) = group.directory();
    tokio::time::timeout(SOON, follower.reached(index)).await.unwrap();
    assert_eq!(*follower.accounts(), expected(&group));
    assert_eq!(follower.accounts().leases.len(), 1);
    assert_eq!(follower.accounts_changes().borrow().tenants.len(), 2);
}
