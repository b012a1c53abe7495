//! The bytes of commands and snapshots, field by field. A change here is a change of what is on disks: it needs a new
//! version, and a reader for the old one.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::collections::BTreeMap;

use weft_index::{Change, Report, ReportForm};
use weft_metadata_state::{Command, Directory, Limits};
use weft_types::{
    BlockSize, ByteSize, Contract, EndpointSpec, Generation, HolderId, Incarnation, IndexKey, LogTime, ModelKey,
    NodeSpec, Part, Tier,
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
            ("56000000", "bytes of the head"),
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
            ("0100 0200 0000", "a run of one holder and two blocks; the holder: 0"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a block"),
            ("cccccccccccccccccccccccccccccccc", "a block"),
            ("3880fa74b1848920", "XXH3-64"),
        ],
    ]
    .concat();
    assert_eq!(hex::encode(directory.snapshot()), golden(&fields));
    assert_eq!(Directory::restore(&directory.snapshot()).unwrap().snapshot(), directory.snapshot());
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
    assert!(Directory::restore(&bytes).unwrap_err().to_string().contains("format 3"));
}
