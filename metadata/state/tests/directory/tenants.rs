//! Tenants, their keys and the groups in which they share.

use std::collections::BTreeMap;

use weft_metadata_state::{Command, Directory, DirectoryChange, Limits, Outcome};
use weft_types::{
    ApiKey, BlockHash, LogTime, Operated, OperatorAction, PublicPrefix, Salt, Tenant, TenantId, TenantSecrets,
    TenantSettings,
};

use crate::actors::{ask, ask_at, grant_lease, put_tenant, refusal};

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn salt_of(directory: &mut Directory, tenant: &str) -> Option<Salt> {
    match ask(directory, OperatorAction::ReadSalt { tenant: tenant.parse().unwrap() }) {
        Operated::Salt(salt) => salt,
        other => panic!("a salt expected, got {other:?}"),
    }
}

fn secrets(directory: &Directory, tenant: &str) -> TenantSecrets {
    directory.accounts().tenants().all()[&tenant.parse().unwrap()].secrets.clone().unwrap()
}

#[test]
fn a_tenant_keeps_its_salt_whatever_is_set_later_and_loses_it_when_it_is_removed() {
    let mut directory = Directory::new();
    ask(&mut directory, put_tenant("acme", 10));
    let first = salt_of(&mut directory, "acme").unwrap();
    let changes = ask_at(&mut directory, 0, put_tenant("acme", 20)).changes;
    let settings = TenantSettings { lease_blocks_max: 20, ..TenantSettings::default() };
    let now = Tenant { settings, secrets: Some(TenantSecrets { salt: Some(first), keys: BTreeMap::new() }) };
    assert_eq!(changes, [DirectoryChange::Tenant(acme(), Some(now))]);
    assert_eq!(salt_of(&mut directory, "acme"), Some(first));

    let removed = ask_at(&mut directory, 0, OperatorAction::RemoveTenant { tenant: acme() });
    assert_eq!(removed.changes, [DirectoryChange::Tenant(acme(), None)]);
    ask(&mut directory, put_tenant("acme", 10));
    assert_ne!(salt_of(&mut directory, "acme"), Some(first), "who bears the name later finds nothing of the former");
}

#[test]
fn a_renewed_salt_ends_the_leases_of_what_was_stored_under_the_old_one_and_nothing_else() {
    let mut directory = Directory::new();
    ask(&mut directory, put_tenant("acme", 10));
    ask(&mut directory, put_tenant("beta", 10));
    let key = ApiKey::new("ci".parse().unwrap(), [1; 32]);
    ask(&mut directory, OperatorAction::AddKey { tenant: acme(), key: "ci".parse().unwrap(), hash: key.hash() });
    ask(&mut directory, grant_lease("acme", 1..=3, 60));
    ask(&mut directory, grant_lease("beta", 1..=3, 60));
    let (before, others) = (secrets(&directory, "acme"), secrets(&directory, "beta"));
    let changes = ask_at(&mut directory, 1, OperatorAction::RenewSalt { tenant: acme() }).changes;
    let now = secrets(&directory, "acme");
    assert_ne!(now.salt, before.salt);
    assert_eq!((&now.keys, secrets(&directory, "beta")), (&before.keys, others));
    assert!(matches!(&changes[..], [DirectoryChange::Tenant(..), DirectoryChange::Lease(_, None)]), "{changes:?}");
    let tenants: Vec<_> = directory.accounts().leases().all().values().map(|lease| lease.tenant.to_string()).collect();
    assert_eq!(tenants, ["beta"]);
}

#[test]
fn a_tenant_without_a_salt_stays_one() {
    let mut directory = Directory::new();
    let unsalted =
        |unsalted| OperatorAction::PutTenant { tenant: acme(), settings: TenantSettings::default(), unsalted };
    ask(&mut directory, unsalted(true));
    assert_eq!(salt_of(&mut directory, "acme"), None);
    let said = refusal(ask_at(&mut directory, 0, unsalted(false)));
    assert!(said.contains("put without a salt"), "{said}");
    let said = refusal(ask_at(&mut directory, 0, OperatorAction::RenewSalt { tenant: acme() }));
    assert!(said.contains("tenant acme has no salt"), "{said}");
    ask(&mut directory, unsalted(true));
}

#[test]
fn a_key_is_one_tenants_and_is_kept_as_a_hash() {
    let mut directory = Directory::new();
    let key = ApiKey::new("ci".parse().unwrap(), [1; 32]);
    let add = |tenant: &str, key: &ApiKey| OperatorAction::AddKey {
        tenant: tenant.parse().unwrap(),
        key: key.id().clone(),
        hash: key.hash(),
    };
    let said = refusal(ask_at(&mut directory, 0, add("acme", &key)));
    assert!(said.contains("no tenant acme"), "{said}");
    ask(&mut directory, put_tenant("acme", 10));
    ask(&mut directory, put_tenant("other", 10));
    ask(&mut directory, add("acme", &key));
    assert_eq!(secrets(&directory, "acme").keys, [("ci".parse().unwrap(), key.hash())].into());
    let said = refusal(ask_at(&mut directory, 0, add("other", &key)));
    assert!(said.contains("key ci is tenant acme's"), "{said}");

    for number in 1..TenantSecrets::KEYS_MAX {
        ask(&mut directory, add("acme", &ApiKey::new(format!("k{number}").parse().unwrap(), [2; 32])));
    }
    let said = refusal(ask_at(&mut directory, 0, add("acme", &ApiKey::new("more".parse().unwrap(), [2; 32]))));
    assert!(said.contains("has 16 keys"), "{said}");
    let remove = |key: &str| OperatorAction::RemoveKey { tenant: acme(), key: key.parse().unwrap() };
    ask(&mut directory, remove("ci"));
    assert!(!secrets(&directory, "acme").keys.contains_key(&"ci".parse().unwrap()));
    let said = refusal(ask_at(&mut directory, 0, remove("ci")));
    assert!(said.contains("no key ci"), "{said}");
}

#[test]
fn a_group_has_a_salt_of_its_own_and_outlives_no_tenant_in_it() {
    let mut directory = Directory::new();
    let group = "docs".parse().unwrap();
    let settings = TenantSettings { groups: [group].into(), ..TenantSettings::default() };
    let join = OperatorAction::PutTenant { tenant: acme(), settings, unsalted: false };
    let said = refusal(ask_at(&mut directory, 0, join.clone()));
    assert!(said.contains("no sharing group docs"), "{said}");

    let put = |blocks| {
        let prefix = PublicPrefix { blocks, last: BlockHash::from_bytes([9; 32]) };
        OperatorAction::PutGroup {
            group: "docs".parse().unwrap(),
            prefixes: [("system".parse().unwrap(), prefix)].into(),
        }
    };
    let said = refusal(ask_at(&mut directory, 0, put(0)));
    assert!(said.contains("public prefix system has no blocks"), "{said}");
    ask(&mut directory, put(3));
    ask(&mut directory, join);
    let kept = directory.accounts().tenants().groups().values().next().unwrap().clone();
    ask(&mut directory, put(4));
    let now = directory.accounts().tenants().groups().values().next().unwrap().clone();
    assert_eq!((kept.salt, now.prefixes[&"system".parse().unwrap()].blocks), (now.salt, 4));
    assert_ne!(now.salt, secrets(&directory, "acme").salt);
    let read = |group: &str| OperatorAction::ReadGroupSalt { group: group.parse().unwrap() };
    assert_eq!(ask(&mut directory, read("docs")), Operated::Salt(now.salt));
    let said = refusal(ask_at(&mut directory, 0, read("dogs")));
    assert!(said.contains("no sharing group dogs"), "{said}");

    let remove = OperatorAction::RemoveGroup { group: "docs".parse().unwrap() };
    let said = refusal(ask_at(&mut directory, 0, remove.clone()));
    assert!(said.contains("tenant acme is in sharing group docs"), "{said}");
    ask(&mut directory, OperatorAction::RemoveTenant { tenant: acme() });
    ask(&mut directory, remove);
}

#[test]
fn tenants_are_bounded_and_their_settings_checked() {
    let mut directory = Directory::new();
    let limits = Limits { tenants: 1, ..Limits::default() };
    directory.apply(Command::SetLimits { at: LogTime::ZERO, limits });
    ask(&mut directory, put_tenant("acme", 10));
    let said = refusal(ask_at(&mut directory, 0, put_tenant("other", 10)));
    assert!(said.contains("1 tenants are there"), "{said}");
    for weight in [0, 10_001] {
        let settings = TenantSettings { weight, ..TenantSettings::default() };
        let put = OperatorAction::PutTenant { tenant: acme(), settings, unsalted: false };
        let said = refusal(ask_at(&mut directory, 0, put));
        assert!(said.contains("expected 1 to 10000"), "{said}");
    }
    let limits = Limits { leases: 1 << 20, ..limits };
    let Outcome::Refused(said) = directory.apply(Command::SetLimits { at: LogTime::ZERO, limits }).outcome else {
        panic!("limits that no message holds were taken")
    };
    assert!(said.contains("above what one message holds"), "{said}");
}
