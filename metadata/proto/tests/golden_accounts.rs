//! The bytes of what operators change and read, and of how watchers hear of it, field by field.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::fmt::Debug;
use std::time::Duration;

use weft_index::DirectoryChange;
use weft_metadata_proto::v1::{
    AuditRequest, AuditResponse, LeaseStatus, LeasesRequest, LeasesResponse, OperateRequest, Reply, RevokedRequest,
    RevokedResponse, RevokedStatus, TenantStatus, TenantsRequest, TenantsResponse, WatchItem, method,
};
use weft_types::rpc::{Message, Method};
use weft_types::{
    Asker, AuditEntry, AuditOutcome, IndexKey, Lease, LeaseId, LogTime, Operated, OperatorAction, RequestId, Role,
    Salt, ShardId, SharingGroup, Tenant, TenantSecrets, TenantSettings,
};

const SHARD: ShardId = ShardId::new(0);
const AT: LogTime = LogTime::from_micros(9);

/// Hex on the left, meaning on the right.
fn check<M: Message + PartialEq + Debug>(message: &M, fields: &[(&str, &str)]) {
    let golden: String = fields.iter().map(|(hex, _)| hex.replace(' ', "")).collect();
    let bytes = message.encode();
    assert_eq!(hex::encode(&bytes), golden);
    assert_eq!(M::decode(&bytes).unwrap(), *message);
}

#[test]
fn method_numbers() {
    let ids = [method::Operate::ID, method::Tenants::ID, method::Leases::ID, method::Audit::ID, method::Revoked::ID];
    assert_eq!(ids, [43, 44, 45, 46, 47]);
}

#[test]
fn operate() {
    let action = OperatorAction::ReleaseLease { lease: LeaseId::new(9) };
    check(
        &OperateRequest { shard: SHARD, request: RequestId::new(5), action },
        &[("00 05", "shard, request 5"), ("08 09", "release lease 9")],
    );
    check(&Reply::Done(Operated::Done), &[("00 00", "done, nothing to tell")]);
    let leased = Operated::Leased { lease: LeaseId::new(1), until: AT };
    check(&Reply::Done(leased), &[("00 01 01 09", "done: lease 1 until 9 µs")]);
    check(&Reply::Done(Operated::Salt(None)), &[("00 02 00", "done: the empty salt")]);
    let salt = Operated::Salt(Some(Salt::from_bytes([0x5a; 32])));
    let salt_bytes = ("5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "salt");
    check(&Reply::Done(salt), &[("00 02 01", "done: a salt"), salt_bytes]);
}

#[test]
fn reads() {
    for bytes in [
        TenantsRequest { shard: SHARD }.encode(),
        LeasesRequest { shard: SHARD }.encode(),
        RevokedRequest { shard: SHARD }.encode(),
    ] {
        assert_eq!(bytes, [0], "the shard");
    }
    check(&AuditRequest { shard: SHARD, last: 5 }, &[("00 05", "shard, the last 5")]);
    let tenant = TenantStatus {
        tenant: "acme".parse().unwrap(),
        settings: TenantSettings::default(),
        salted: true,
        keys: vec!["ci".parse().unwrap()],
        leases: 2,
        pinned_blocks: 3,
    };
    check(
        &TenantsResponse { applied: 7, tenants: vec![tenant], groups: Default::default() },
        &[
            ("07 01 04 61636d65", "applied, one tenant, acme"),
            ("00 64 fb0040 00", "no quota, weight 100, 16,384 lease blocks, no groups"),
            ("01 01 02 6369", "salted, one key, ci"),
            ("02 03", "2 leases on 3 blocks"),
            ("00", "no groups"),
        ],
    );
    let lease = LeaseStatus {
        lease: LeaseId::new(1),
        tenant: "acme".parse().unwrap(),
        first: IndexKey::from_bytes([0xaa; 16]),
        blocks: 3,
        left: Duration::from_secs(60),
    };
    check(
        &LeasesResponse { applied: 7, leases: vec![lease] },
        &[
            ("07 01 01 04 61636d65", "applied, one lease, number 1, for acme"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "first block"),
            ("03 3c 00", "3 blocks, 60 s left"),
        ],
    );
    let entry = AuditEntry {
        index: 6,
        at: AT,
        by: Asker { role: Role::Admin, name: "ops".parse().unwrap() },
        request: RequestId::new(5),
        what: "hm".into(),
        outcome: AuditOutcome::Refused("no".into()),
    };
    check(
        &AuditResponse { applied: 7, log_time: AT, entries: vec![entry] },
        &[
            ("07 09 01", "applied, log time, one entry"),
            ("06 09 03 03 6f7073 05", "index, time, by admin/ops, request 5"),
            ("02 686d 02 02 6e6f", "hm, refused: no"),
        ],
    );
    let line = RevokedStatus { serial: "5f03".parse().unwrap(), at: AT, reason: "lost".into() };
    check(
        &RevokedResponse { applied: 7, log_time: AT, revoked: vec![line] },
        &[("07 09 01", "applied, log time, one line"), ("04 35663033 09 04 6c6f7374", "5f03, since 9 µs, lost")],
    );
}

#[test]
fn watch() {
    let secrets = Some(TenantSecrets { salt: None, keys: Default::default() });
    let tenant = Tenant { settings: TenantSettings::default(), secrets };
    let lease = Lease { tenant: "acme".parse().unwrap(), prefix: [IndexKey::from_bytes([0xaa; 16])].into(), until: AT };
    let changes = vec![
        DirectoryChange::Tenant("acme".parse().unwrap(), Some(tenant)),
        DirectoryChange::Tenant("acme".parse().unwrap(), None),
        DirectoryChange::Group("docs".parse().unwrap(), Some(SharingGroup::default())),
        DirectoryChange::Lease(LeaseId::new(1), Some(lease)),
        DirectoryChange::Lease(LeaseId::new(1), None),
        DirectoryChange::Revoked("5f03".parse().unwrap(), true),
    ];
    let fields = [
        ("06 0f000000 04 61636d65 01", "tenant acme as it is now, 15 bytes:"),
        ("00 64 fb0040 00", "no quota, weight 100, 16,384 lease blocks, no groups"),
        ("01 00 00", "secrets: the empty salt, no keys"),
        ("06 06000000 04 61636d65 00", "tenant acme is gone"),
        ("07 08000000 04 646f6373 01 00 00", "group docs as it is now: its salt kept back, no prefixes"),
        ("08 19000000 01 01 04 61636d65 01", "lease 1 as it is now, 25 bytes: for acme, one block:"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key"),
        ("09", "until 9 µs"),
        ("08 02000000 01 00", "lease 1 has ended"),
        ("09 06000000 04 35663033 01", "5f03 is on the deny list now"),
    ];
    let header = [("03 000000 00000000", "tag"), ("0900000000000000", "log index")];
    check(&WatchItem::Changes { index: 9, changes: changes.clone() }, &[&header[..], &fields].concat());
    check(&WatchItem::SnapshotAccounts(changes), &[&[("07 000000 00000000", "tag")][..], &fields].concat());
}
