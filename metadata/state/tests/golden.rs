//! The bytes of commands and snapshots, field by field. A change here is a change of what is on disks: it needs a new
//! version, and a reader for the old one.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::collections::BTreeMap;
use std::time::Duration;

use weft_index::{Change, Report, ReportForm};
use weft_metadata_state::{Command, Directory, Limits, Outcome};
use weft_types::{
    ApiKey, Asker, BlockHash, BlockSize, ByteSize, Contract, EndpointSpec, Generation, HolderId, Incarnation, IndexKey,
    LeaseId, LogTime, ModelKey, NodeSpec, OperatorAction, Part, PublicPrefix, RequestId, Role, Salt, TenantSettings,
    Tier,
};

/// Hex on the left, meaning on the right.
fn golden(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(hex, _)| hex.replace(' ', "")).collect()
}

fn check(command: &Command, fields: &[(&str, &str)]) {
    let bytes = command.encode();
    assert_eq!(hex::encode(&bytes), golden(fields));
    assert_eq!(Command::decode(&bytes).unwrap(), *command);
}

const AT: LogTime = LogTime::from_micros(0x1122_3344);

fn node() -> NodeSpec {
    NodeSpec {
        id: "n1".parse().unwrap(),
        incarnation: Incarnation::new(7),
        fabric: "127.0.0.1:7410".parse().unwrap(),
        bulk: "[::1]:7412".parse().unwrap(),
        capacity: [(Tier::Host, ByteSize::from_mib(64))].into(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
    }
}

fn endpoint() -> EndpointSpec {
    let model_key = ModelKey {
        model: "m".into(),
        revision: "r".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "l".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: 300, ranks: vec![0, 1] }];
    let contract =
        Contract { model_key, parts, aliases: vec!["m".into()], tokenizer: "t".into(), chat_template: String::new() };
    EndpointSpec {
        id: "e1".parse().unwrap(),
        incarnation: Incarnation::new(300),
        url: "http://h:1".into(),
        node: Some("n1".parse().unwrap()),
        ranks: 1,
        contracts: vec![contract],
    }
}

fn key(number: u8) -> IndexKey {
    IndexKey::from_bytes([number; 16])
}

fn report() -> Report {
    Report {
        holder: HolderId::new(0),
        generation: Generation::new(1),
        incarnation: Incarnation::new(7),
        number: 1,
        form: ReportForm::default(),
        changes: vec![Change::Stored(key(0xaa)), Change::Removed(key(0xbb)), Change::Stored(key(0xcc))],
    }
}

const NODE: &[(&str, &str)] = &[
    ("02 6e31", "id n1"),
    ("07", "incarnation"),
    ("00 7f000001 fbf21c", "fabric: IPv4, port 7410"),
    ("01 00000000000000000000000000000001 fbf41c", "bulk: IPv6, port 7412"),
    ("01 01 05 36344d6942", "one tier: host, 64MiB"),
    ("01 04 7a6f6e65 01 61", "one label: zone = a"),
];

fn with_header(kind: &'static str, body: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let header = [("01", "version"), (kind, "kind"), ("000000000000", "reserved"), ("4433221100000000", "at")];
    [&header, body].concat()
}

#[test]
fn reports() {
    let fields = with_header(
        "00",
        &[
            ("00000000", "holder"),
            ("01000000", "generation"),
            ("0700000000000000", "incarnation"),
            ("0100000000000000", "number"),
            ("03000000", "changes"),
            ("00000000", "reserved"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key 0"),
            ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "key 1"),
            ("cccccccccccccccccccccccccccccccc", "key 2"),
            ("05", "0 and 2 stored, 1 removed"),
        ],
    );
    check(&Command::Reports { at: AT, reports: vec![report()] }, &fields);
}

#[test]
fn join() {
    check(&Command::Join { at: AT, node: node() }, &with_header("01", NODE));
}

#[test]
fn leave_and_expire() {
    let (node, incarnation) = (node().id, Incarnation::new(7));
    let body = [("02 6e31", "node n1"), ("07", "incarnation")];
    check(&Command::Leave { at: AT, node: node.clone(), incarnation }, &with_header("02", &body));
    check(&Command::Expire { at: AT, node, incarnation }, &with_header("03", &body));
}

#[test]
fn endpoints() {
    let body = [
        ("02 6531", "id e1"),
        ("fb2c01", "incarnation 300"),
        ("0a 687474703a2f2f683a31", "url"),
        ("01 02 6e31", "at node n1"),
        ("01", "ranks"),
        ("01", "one contract:"),
        ("01 6d 01 72 00 00 01 6c 40", "model key: model m, revision r, no adapter, no salt, layout l, 64 tokens"),
        ("01 fb2c01 02 00 01", "one part: 300 bytes, ranks 0 and 1"),
        ("01 01 6d", "one alias: m"),
        ("01 74 00", "tokenizer t, no chat template"),
    ];
    check(&Command::PutEndpoint { at: AT, endpoint: endpoint() }, &with_header("04", &body));
    let remove = Command::RemoveEndpoint { at: AT, endpoint: endpoint().id, incarnation: Incarnation::new(300) };
    check(&remove, &with_header("05", &body[..2]));
}

#[test]
fn sweep_and_limits() {
    let budget = [("fb8813", "budget 5000")];
    check(&Command::Sweep { at: AT, budget: 5000 }, &with_header("06", &budget));
    check(&Command::SetLimits { at: AT, limits: Limits::default() }, &with_header("07", LIMITS));
}

const LIMITS: &[(&str, &str)] = &[
    ("fc0024f400", "16,000,000 blocks"),
    ("fb0040", "16,384 holders"),
    ("fb0004", "1,024 nodes"),
    ("fb0010", "4,096 endpoints"),
    ("fb0004", "1,024 tenants"),
    ("fb0040", "16,384 leases"),
    ("fc40420f00", "1,000,000 leased blocks"),
];

/// Everything an operator may ask for, and its bytes behind who asks.
fn actions() -> Vec<(OperatorAction, Vec<(&'static str, &'static str)>)> {
    let acme = || "acme".parse().unwrap();
    let settings = TenantSettings {
        quota: [(Tier::Host, ByteSize::from_mib(64))].into(),
        weight: 300,
        lease_blocks_max: 10,
        groups: ["docs".parse().unwrap()].into(),
    };
    let hash = ApiKey::new("ci".parse().unwrap(), [0; 32]).hash();
    let prefix = PublicPrefix { blocks: 3, last: BlockHash::from_bytes([0xdd; 32]) };
    let ttl = Duration::from_millis(60_500);
    let tenant = ("04 61636d65", "tenant acme");
    let ttl_bytes = ("3c fc0065cd1d", "for 60 s and 500,000,000 ns");
    vec![
        (
            OperatorAction::PutGroup {
                group: "docs".parse().unwrap(),
                prefixes: [("sys".parse().unwrap(), prefix)].into(),
            },
            vec![
                ("04 04 646f6373", "put group docs"),
                ("01 03 737973 03", "one public prefix: sys, 3 blocks, the last:"),
                ("dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "block hash"),
            ],
        ),
        (
            OperatorAction::PutTenant { tenant: acme(), settings, unsalted: false },
            vec![
                ("00", "put"),
                tenant,
                ("01 01 05 36344d6942", "quota of one tier: host, 64MiB"),
                ("fb2c01 0a", "weight 300, 10 lease blocks"),
                ("01 04 646f6373 00", "in one group, docs; with a salt"),
            ],
        ),
        (
            OperatorAction::AddKey { tenant: acme(), key: "ci".parse().unwrap(), hash },
            vec![
                ("02", "add a key to"),
                tenant,
                ("02 6369", "key ci"),
                ("35f507c0280cffa91a346408cf5404b54cbe4101bf58d4499128b96c3c1289b6", "BLAKE3 of the key"),
            ],
        ),
        (
            OperatorAction::GrantLease { tenant: acme(), prefix: vec![key(0xaa)], ttl },
            vec![("06", "lease for"), tenant, ("01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "one block"), ttl_bytes],
        ),
        (OperatorAction::RenewLease { lease: LeaseId::new(1), ttl }, vec![("07 01", "renew lease 1"), ttl_bytes]),
        (
            OperatorAction::Revoke { serial: "5f03".parse().unwrap(), reason: "lost".to_owned() },
            vec![("09 04 35663033", "revoke 5f03"), ("04 6c6f7374", "reason: lost")],
        ),
        (OperatorAction::ReadSalt { tenant: acme() }, vec![("0c", "read the salt of"), tenant]),
        (
            OperatorAction::ReadGroupSalt { group: "docs".parse().unwrap() },
            vec![("0e 04 646f6373", "read the salt of group docs")],
        ),
        (OperatorAction::ReleaseLease { lease: LeaseId::new(9) }, vec![("08 09", "release lease 9")]),
        (OperatorAction::Reinstate { serial: "7f".parse().unwrap() }, vec![("0a 02 3766", "reinstate 7f")]),
        (OperatorAction::RemoveEndpoint { endpoint: endpoint().id }, vec![("0b 02 6531", "remove endpoint e1")]),
        (OperatorAction::Note { what: "hm".to_owned() }, vec![("0d 02 686d", "note: hm")]),
        (
            OperatorAction::RemoveKey { tenant: "zz".parse().unwrap(), key: "ci".parse().unwrap() },
            vec![("03 02 7a7a 02 6369", "remove key ci of tenant zz")],
        ),
        (OperatorAction::RemoveGroup { group: "gg".parse().unwrap() }, vec![("05 02 6767", "remove group gg")]),
        (OperatorAction::RemoveTenant { tenant: "zz".parse().unwrap() }, vec![("01 02 7a7a", "remove tenant zz")]),
        (
            OperatorAction::RenewSalt { tenant: "zz".parse().unwrap() },
            vec![("0f 02 7a7a", "renew the salt of tenant zz")],
        ),
        (OperatorAction::RemoveNode { node: "n1".parse().unwrap() }, vec![("10 02 6e31", "remove node n1")]),
    ]
}

fn operator(request: u64, action: OperatorAction) -> Command {
    let by = Asker { role: Role::Admin, name: "ops".parse().unwrap() };
    Command::Operator { at: AT, by, request: RequestId::new(request), salt: Salt::from_bytes([0x5a; 32]), action }
}

const BY: &[(&str, &str)] = &[
    ("03 03 6f7073", "asked by admin/ops"),
    ("07", "request 7"),
    ("5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "a salt, if one is needed"),
];

#[test]
fn operators() {
    for (action, body) in actions() {
        check(&operator(7, action), &with_header("08", &[BY, &body].concat()));
    }
    check(&Command::ExpireLeases { at: AT }, &with_header("09", &[]));
}

#[test]
fn accounts() {
    let mut directory = Directory::new();
    for (number, (action, _)) in (1..).zip(actions().into_iter().take(6)) {
        let applied = directory.apply_at(number, operator(number, action));
        assert!(matches!(applied.outcome, Outcome::Operated(_)), "{applied:?}");
    }
    let bytes = directory.snapshot();
    let head = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let records = &bytes[32 + head..bytes.len() - 8];
    assert_eq!(hex::encode(records), golden(RECORDS));
    assert_eq!(Directory::restore(&bytes[..]).unwrap().accounts(), directory.accounts());
}

const RECORDS: &[(&str, &str)] = &[
    ("6002000000000000", "bytes of the records"),
    ("00 4c000000", "a group, 76 bytes:"),
    ("04 646f6373 01", "docs, with a salt:"),
    ("5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "salt"),
    ("01 03 737973 03", "one public prefix: sys, 3 blocks, the last:"),
    ("dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "block hash"),
    ("01 5d000000", "a tenant, 93 bytes:"),
    ("04 61636d65", "acme"),
    ("01 01 05 36344d6942", "quota of one tier: host, 64MiB"),
    ("fb2c01 0a", "weight 300, 10 lease blocks"),
    ("01 04 646f6373", "in one group, docs"),
    ("01 01", "secrets: a salt"),
    ("5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "salt"),
    ("01 02 6369", "one key, ci:"),
    ("35f507c0280cffa91a346408cf5404b54cbe4101bf58d4499128b96c3c1289b6", "BLAKE3 of the key"),
    ("02 1c000000", "a lease, 28 bytes:"),
    ("01 04 61636d65", "number 1, for acme"),
    ("01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "one block"),
    ("fc 645bbd14", "ends at AT + 60.5 s"),
    ("03 01000000 01", "number of the last lease, 1 byte: 1"),
    ("04 0f000000", "a revocation, 15 bytes:"),
    ("04 35663033", "5f03"),
    ("fc 44332211 04 6c6f7374", "at AT, reason: lost"),
    ("05 44000000", "an audit entry, 68 bytes:"),
    ("01 fc 44332211 03 03 6f7073 01", "index 1, at AT, by admin/ops, request 1"),
    (
        "36 7075742073686172696e672067726f757020646f63732c207075626c69632070726566697865732073797320283320626c6f636b7329",
        "put sharing group docs, public prefixes sys (3 blocks)",
    ),
    ("00", "done"),
    ("05 59000000", "an audit entry, 89 bytes:"),
    ("02 fc 44332211 03 03 6f7073 02", "index 2, at AT, by admin/ops, request 2"),
    (
        "4b 7075742074656e616e742061636d653a20776569676874203330302c203130206c6561736520626c6f636b732c2071756f746120686f73743d36344d69422c2067726f75707320646f6373",
        "put tenant acme: weight 300, 10 lease blocks, quota host=64MiB, groups docs",
    ),
    ("00", "done"),
    ("05 27000000", "an audit entry, 39 bytes:"),
    ("03 fc 44332211 03 03 6f7073 03", "index 3, at AT, by admin/ops, request 3"),
    ("19 616464206b657920636920746f2074656e616e742061636d65", "add key ci to tenant acme"),
    ("00", "done"),
    ("05 3a000000", "an audit entry, 58 bytes:"),
    ("04 fc 44332211 03 03 6f7073 04", "index 4, at AT, by admin/ops, request 4"),
    (
        "26 70696e203120626c6f636b7320666f722074656e616e742061636d6520666f722036302e3573",
        "pin 1 blocks for tenant acme for 60.5s",
    ),
    ("01 01 fc 645bbd14", "lease 1 until AT + 60.5 s"),
    ("05 2b000000", "an audit entry, 43 bytes:"),
    ("05 fc 44332211 03 03 6f7073 05", "index 5, at AT, by admin/ops, request 5"),
    ("17 72656e6577206c65617365203120666f722036302e3573", "renew lease 1 for 60.5s"),
    ("01 01 fc 645bbd14", "lease 1 until AT + 60.5 s"),
    ("05 2b000000", "an audit entry, 43 bytes:"),
    ("06 fc 44332211 03 03 6f7073 06", "index 6, at AT, by admin/ops, request 6"),
    ("1d 7265766f6b6520636572746966696361746520356630333a206c6f7374", "revoke certificate 5f03: lost"),
    ("00", "done"),
];

#[test]
fn snapshot() {
    let mut directory = Directory::new();
    directory.apply(Command::Join { at: AT, node: node() });
    directory.apply(Command::Reports { at: AT, reports: vec![report()] });
    directory.apply(Command::PutEndpoint { at: AT, endpoint: endpoint() });
    directory.apply(Command::RemoveEndpoint { at: AT, endpoint: endpoint().id, incarnation: Incarnation::new(300) });
    let fields = [
        &[
            ("776566742e646972", "magic"),
            ("02000000", "version"),
            ("61000000", "bytes of the head"),
            ("4433221100000000", "log time"),
            ("0200000000000000", "blocks"),
        ],
        LIMITS,
        &[("01 02 6e31", "one node, n1:")],
        NODE,
        &[
            ("00", "no endpoints"),
            ("01 00", "one holder, number 0:"),
            ("01 02 6e31 01", "key: node n1, host"),
            ("00 01 07", "number 0, generation 1, incarnation 7"),
            ("00", "no contracts"),
            ("02", "two numbers:"),
            ("01 01 01", "generation 1, granted, reported up to 1"),
            ("02 02", "generation 2, retired"),
            ("00", "the sweep stands at partition 0"),
            ("00", "no blocks refused"),
            ("0000000000000000", "bytes of the records of accounts"),
            ("0100 0200 0000", "a run of one holder and two blocks; the holder: 0"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a block"),
            ("cccccccccccccccccccccccccccccccc", "a block"),
            ("4a3d41503d1b202b", "XXH3-64"),
        ],
    ]
    .concat();
    assert_eq!(hex::encode(directory.snapshot()), golden(&fields));
    assert_eq!(Directory::restore(&directory.snapshot()[..]).unwrap().snapshot(), directory.snapshot());
}

#[test]
fn what_a_later_release_wrote_is_refused_by_name() {
    let mut bytes = Command::Sweep { at: AT, budget: 1 }.encode();
    bytes[0] = 2;
    assert!(Command::decode(&bytes).unwrap_err().to_string().contains("format 2"));
    bytes[..2].copy_from_slice(&[1, 99]);
    assert!(Command::decode(&bytes).unwrap_err().to_string().contains("kind 99"));
    let mut bytes = Directory::new().snapshot();
    bytes[8] = 3;
    assert!(Directory::restore(&bytes[..]).unwrap_err().to_string().contains("format 3"));
}
