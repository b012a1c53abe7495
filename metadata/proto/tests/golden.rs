//! The bytes of every message, field by field. A change here breaks neighbouring releases.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use weft_index::{Change, Digests, DirectoryChange, PartitionId, Partitions, Report, ReportAck, ReportForm, Run};
use weft_metadata_proto::v1::{
    BlockList, ChangeMembersRequest, CutOff, DigestsRequest, GroupDigests, HolderDigests, HolderMatch, JoinRequest,
    Joined, KeepAliveRequest, LeaveRequest, LookupRequest, LookupResponse, MemberState, MemberStatus, MembersChange,
    NewMember, PutEndpointRequest, RemoveEndpointRequest, Reply, ReportRequest, RosterRequest, RosterResponse,
    StatusRequest, StatusResponse, TierStatus, TransferLeaderRequest, WatchFilter, WatchItem, WatchRequest, WatchScope,
    method,
};
use weft_types::rpc::{Message, Method};
use weft_types::{
    ByteSize, ContractConflict, EndpointSpec, Generation, HolderGrant, HolderId, HolderKey, Incarnation, IndexKey,
    LogTime, MemberId, NodeSpec, Roster, ShardId, Tier,
};

/// Hex on the left, meaning on the right.
fn check<M: Message + PartialEq + Debug>(message: &M, fields: &[(&str, &str)]) {
    let expected: String = fields.iter().map(|(hex, _)| hex.replace(' ', "")).collect();
    let bytes = message.encode();
    assert_eq!(hex::encode(&bytes), expected, "{message:?}");
    assert_eq!(M::decode(&bytes).unwrap(), *message);
    assert!(M::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "a byte too many is refused: {message:?}");
}

const SHARD: ShardId = ShardId::new(0);
const INCARNATION: Incarnation = Incarnation::new(7);

const NODE: &[(&str, &str)] = &[
    ("02 6e31", "id n1"),
    ("07", "incarnation"),
    ("00 7f000001 fbf21c", "fabric 127.0.0.1:7410"),
    ("00 7f000001 fbf41c", "bulk 127.0.0.1:7412"),
    ("01 01 05 36344d6942", "one tier: host, 64MiB"),
    ("00", "no labels"),
];
const ENDPOINT: &[(&str, &str)] = &[
    ("02 6531", "id e1"),
    ("07", "incarnation"),
    ("0a 687474703a2f2f683a31", "url"),
    ("00", "no node"),
    ("02", "ranks"),
    ("00", "no contracts"),
];
const GRANT: &[(&str, &str)] =
    &[("01 02 6e31 01", "key: node n1, host"), ("05", "holder"), ("02", "generation"), ("07", "incarnation")];
const REPORT: &[(&str, &str)] = &[
    ("05000000", "holder"),
    ("02000000", "generation"),
    ("0700000000000000", "incarnation"),
    ("0300000000000000", "number"),
    ("02000000 00000000", "two changes; reserved"),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key"),
    ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "key"),
    ("02", "the second was stored, the first removed"),
];

fn node() -> NodeSpec {
    NodeSpec {
        id: "n1".parse().unwrap(),
        incarnation: INCARNATION,
        fabric: "127.0.0.1:7410".parse().unwrap(),
        bulk: "127.0.0.1:7412".parse().unwrap(),
        capacity: [(Tier::Host, ByteSize::from_mib(64))].into(),
        labels: BTreeMap::new(),
    }
}

fn endpoint() -> EndpointSpec {
    EndpointSpec {
        id: "e1".parse().unwrap(),
        incarnation: INCARNATION,
        url: "http://h:1".into(),
        node: None,
        ranks: 2,
        contracts: vec![],
    }
}

fn grant() -> HolderGrant {
    let key = HolderKey::Node { node: node().id, tier: Tier::Host };
    HolderGrant { key, holder: HolderId::new(5), generation: Generation::new(2), incarnation: INCARNATION }
}

fn key(number: u8) -> IndexKey {
    IndexKey::from_bytes([number; 16])
}

fn report() -> Report {
    Report {
        holder: HolderId::new(5),
        generation: Generation::new(2),
        incarnation: INCARNATION,
        number: 3,
        form: ReportForm::default(),
        changes: vec![Change::Removed(key(0xaa)), Change::Stored(key(0xbb))],
    }
}

fn roster() -> Roster {
    Roster {
        nodes: [(node().id, node())].into(),
        endpoints: BTreeMap::new(),
        holders: [(grant().holder, grant())].into(),
        contracts: vec![],
    }
}

fn roster_fields() -> Vec<(&'static str, &'static str)> {
    let (nodes, holders) = (&[("01 02 6e31", "one node, n1:")], &[("00", "no endpoints"), ("01 05", "one holder, 5:")]);
    [nodes, NODE, holders, GRANT, &[("00", "no contracts")]].concat()
}

#[test]
fn method_numbers() {
    fn id<M: Method>() -> (u16, &'static str) {
        (M::ID, M::NAME)
    }
    let all = [
        id::<method::Join>(),
        id::<method::KeepAlive>(),
        id::<method::Leave>(),
        id::<method::PutEndpoint>(),
        id::<method::RemoveEndpoint>(),
        id::<method::Report>(),
        id::<method::Lookup>(),
        id::<method::Roster>(),
        id::<method::Watch>(),
        id::<method::Status>(),
        id::<method::Digests>(),
    ];
    let names = [
        "join",
        "keep_alive",
        "leave",
        "put_endpoint",
        "remove_endpoint",
        "report",
        "lookup",
        "roster",
        "watch",
        "status",
        "digests",
    ];
    assert_eq!(all.to_vec(), (20..).zip(names).collect::<Vec<_>>());
    let operators = [id::<method::ChangeMembers>(), id::<method::TransferLeader>()];
    assert_eq!(id::<method::Backup>(), (42, "backup"));
    assert_eq!(operators, [(40, "change_members"), (41, "transfer_leader")]);
}

#[test]
fn join() {
    check(&JoinRequest { shard: SHARD, node: node() }, &[&[("00", "shard")], NODE].concat());
    let joined = Joined { grants: vec![grant()], lease: Duration::from_millis(2000) };
    check(&Reply::Done(joined), &[&[("00 01", "done, one grant")], GRANT, &[("02 00", "lease 2 s, 0 ns")]].concat());
}

#[test]
fn replies() {
    check(&Reply::<bool>::NotLeader { leader: None }, &[("01 00", "not the leader, who is unknown")]);
    let leader = Some("127.0.0.1:7400".parse().unwrap());
    check(
        &Reply::<()>::NotLeader { leader },
        &[("01 01", "not the leader, who is known:"), ("00 7f000001 fbe81c", "127.0.0.1:7400")],
    );
    check(&Reply::<()>::Refused("no".into()), &[("02 02 6e6f", "refused: no")]);
    let conflict = ContractConflict { field: "f".into(), agreed: "a".into(), offered: "o".into() };
    check(&Reply::<bool>::Conflict(conflict), &[("03 01 66 01 61 01 6f", "conflict: field, agreed, offered")]);
}

#[test]
fn keep_alive_and_leave() {
    let fields = [("00", "shard"), ("02 6e31", "node n1"), ("07", "incarnation")];
    check(&KeepAliveRequest { shard: SHARD, node: node().id, incarnation: INCARNATION }, &fields);
    check(&LeaveRequest { shard: SHARD, node: node().id, incarnation: INCARNATION }, &fields);
    check(&Reply::Done(true), &[("00 01", "done, renewed")]);
    check(&Reply::Done(()), &[("00", "done")]);
}

#[test]
fn endpoints() {
    check(&PutEndpointRequest { shard: SHARD, endpoint: endpoint() }, &[&[("00", "shard")], ENDPOINT].concat());
    check(&Reply::Done(vec![grant()]), &[&[("00 01", "done, one grant")], GRANT].concat());
    let remove = RemoveEndpointRequest { shard: SHARD, endpoint: endpoint().id, incarnation: INCARNATION };
    check(&remove, &[("00", "shard"), ("02 6531", "endpoint e1"), ("07", "incarnation")]);
}

#[test]
fn reports() {
    let header = [("0000 0000", "shard; reserved"), ("01000000", "one report")];
    check(&ReportRequest { shard: SHARD, reports: vec![report()] }, &[&header, REPORT].concat());
    let acks = vec![
        ReportAck::Applied { number: 3 },
        ReportAck::Gap { expected: 4 },
        ReportAck::Fenced,
        ReportAck::Replaced { number: 5, blocks: 6 },
    ];
    let fields = [
        ("00 04", "done, four acks"),
        ("00 03 01 04 02 03 05 06", "applied 3; gap at 4; fenced; 5 replaced, 6 blocks were wrong"),
    ];
    check(&Reply::Done(acks), &fields);
}

#[test]
fn a_report_that_replaces() {
    let partitions = [0xaaa, 0xabc].map(|number| PartitionId::new(number).unwrap());
    let report = Report {
        form: ReportForm { replaces: Partitions::new(partitions[0], partitions[1]), continues: true },
        changes: vec![Change::Stored(key(0xaa))],
        ..report()
    };
    let header = [("0000 0000", "shard; reserved"), ("01000000", "one report")];
    let fields = [
        ("01000000", "one change"),
        ("aacaab03", "0xaaa to 0xabc; replaces, continues"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key"),
        ("01", "stored"),
    ];
    check(&ReportRequest { shard: SHARD, reports: vec![report] }, &[&header, &REPORT[..4], &fields].concat());
}

#[test]
fn digests() {
    let mut groups = [0; Digests::GROUPS];
    (groups[0], groups[63]) = (0x1122, 0x3344);
    let (holder, generation) = (grant().holder, grant().generation);
    let zeros = "00".repeat(62 * 8);
    let fields = [
        ("0000 0000", "shard; reserved"),
        ("05000000 02000000", "holder, generation"),
        ("00000000", "reserved"),
        ("0900000000000000", "blocks"),
        ("2211000000000000", "sum of group 0"),
        (&*zeros, "sums of groups 1 to 62"),
        ("4433000000000000", "sum of group 63"),
    ];
    check(&DigestsRequest { shard: SHARD, holder, generation, blocks: 9, groups }, &fields);
    check(&Reply::<Option<HolderDigests>>::Done(None), &[("00 00", "done, this life is over")]);
    let differing = vec![GroupDigests { group: 63, sums: vec![1, 300] }];
    let digests = HolderDigests { number: 7, blocks: 8, differing };
    check(
        &Reply::Done(Some(digests)),
        &[("00 01 07 08", "done: report 7, 8 blocks"), ("01 3f 02 01 fb2c01", "one group, 63, two sums: 1, 300")],
    );
}

#[test]
fn reads() {
    let fields = [
        ("0000 0000", "shard; reserved"),
        ("02000000", "two keys"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key"),
        ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "key"),
    ];
    check(&LookupRequest { shard: SHARD, prefix: vec![key(0xaa), key(0xbb)] }, &fields);
    let matches = vec![HolderMatch { grant: grant(), blocks: 2 }];
    let fields = [&[("09 01", "applied 9, one match:")], GRANT, &[("02", "blocks")]].concat();
    check(&LookupResponse { applied: 9, matches }, &fields);
    check(&RosterRequest { shard: SHARD }, &[("00", "shard")]);
    let fields = [vec![("09", "applied 9")], roster_fields()].concat();
    check(&RosterResponse { applied: 9, roster: roster() }, &fields);
}

#[test]
fn watch() {
    let request = |resume, scope| WatchRequest { shard: SHARD, resume, scope, filter: None };
    check(
        &request(None, WatchScope::Directory),
        &[("00 00 00 00", "shard, from the start, everything, of all models")],
    );
    check(&request(Some(9), WatchScope::Accounts), &[("00 01 09 01 00", "shard, from log index 9, accounts only")]);
    let filter = WatchFilter { models: ["m".to_owned()].into(), holders: [5, 258].map(HolderId::new).into() };
    check(
        &WatchRequest { filter: Some(filter), ..request(Some(9), WatchScope::Directory) },
        &[
            ("00 01 09 00", "shard, from log index 9, everything"),
            ("01", "filtered:"),
            ("01 01 6d", "one model, m"),
            ("02 05 fb0201", "holders 5, 258"),
        ],
    );
    let begin = [vec![("00 000000", "tag"), ("09", "log index")], roster_fields()].concat();
    check(&WatchItem::SnapshotBegin { index: 9, roster: roster() }, &begin);
    let mut blocks = BlockList::default();
    blocks.push(&Run { holders: [5, 258].map(HolderId::new).to_vec(), keys: vec![key(0xaa), key(0xbb)] });
    check(
        &WatchItem::SnapshotBlocks(blocks),
        &[
            ("01 000000", "tag"),
            ("01000000", "one run:"),
            ("0200 0200", "two holders, two blocks"),
            ("0500 0201", "holders 5, 258"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "key"),
            ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "key"),
        ],
    );
    check(&WatchItem::SnapshotEnd, &[("02 000000", "tag")]);
    let at = LogTime::from_micros(300);
    check(&WatchItem::Heartbeat { index: 9, at }, &[("04 000000", "tag"), ("09 fb2c01", "log index 9, 300 µs")]);
    let cut_offs = [
        (CutOff::Lagged { entries_max: 8 }, "00 08", "lagged, 8 entries"),
        (CutOff::Jumped, "01", "jumped"),
        (CutOff::Closing, "02", "closing"),
        (CutOff::Filter, "03", "filter"),
    ];
    for (reason, bytes, meaning) in cut_offs {
        check(&WatchItem::CutOff(reason), &[("05 000000", "tag"), (bytes, meaning)]);
    }
    check(&WatchItem::Resumed, &[("06 000000", "tag")]);
}

#[test]
fn changes() {
    let changes = vec![
        DirectoryChange::Blocks(report()),
        DirectoryChange::HolderGranted(grant()),
        DirectoryChange::HolderRetired(HolderId::new(5)),
        DirectoryChange::Node(node().id, Some(node())),
        DirectoryChange::Node(node().id, None),
        DirectoryChange::Endpoint(endpoint().id, Some(endpoint())),
        DirectoryChange::Endpoint(endpoint().id, None),
        DirectoryChange::Contracts(vec![]),
    ];
    let fields = [
        &[("03 000000", "tag"), ("00000000", "reserved"), ("0900000000000000", "log index"), ("00", "blocks:")],
        REPORT,
        &[("01 08000000", "granted, 8 bytes:")],
        GRANT,
        &[("02 01000000 05", "retired: 5"), ("03 21000000 02 6e31 01", "node n1 as it is now, 33 bytes:")],
        NODE,
        &[
            ("03 04000000 02 6e31 00", "node n1 is gone"),
            ("04 16000000 02 6531 01", "endpoint e1 as it is now, 22 bytes:"),
        ],
        ENDPOINT,
        &[("04 04000000 02 6531 00", "endpoint e1 is gone"), ("05 01000000 00", "no contracts any more")],
    ]
    .concat();
    check(&WatchItem::Changes { index: 9, changes }, &fields);
}

#[test]
fn status() {
    check(&StatusRequest { shard: SHARD }, &[("00", "shard")]);
    let status = StatusResponse {
        member: MemberId::new(1),
        state: MemberState::Leader,
        leader: Some(MemberId::new(1)),
        leader_addr: Some("127.0.0.1:7400".parse().unwrap()),
        term: 2,
        last_log: 12,
        committed: 11,
        applied: 10,
        snapshot: Some(4),
        log_bytes: 300,
        log_time: LogTime::from_micros(9),
        members: vec![MemberStatus { id: MemberId::new(1), addr: "127.0.0.1:7400".parse().unwrap(), voter: true }],
        blocks: 6,
        refused_blocks: 0,
        tiers: [(Tier::Device, TierStatus { holders: 2, blocks: 5 })].into(),
        nodes: 3,
        endpoints: 4,
        by_holder: [(HolderId::new(5), 6)].into(),
        tenants: 7,
        leases: 8,
        leased_blocks: 9,
    };
    let fields = [
        ("01 00", "member 1, leader"),
        ("01 01 01 00 7f000001 fbe81c", "the leader is 1, at 127.0.0.1:7400"),
        ("02", "term"),
        ("0c 0b 0a", "last log, committed, applied"),
        ("01 04", "snapshot at 4"),
        ("fb2c01", "log bytes"),
        ("09", "log time"),
        ("01 01 00 7f000001 fbe81c 01", "one member: 1, address, voter"),
        ("06 00", "blocks, refused"),
        ("01 00 02 05", "one tier: device, 2 holders, 5 blocks"),
        ("03 04", "nodes, endpoints"),
        ("01 05 06", "one holder, 5, has 6 blocks"),
        ("07 08 09", "tenants, leases, leased blocks"),
    ];
    check(&status, &fields);
    let states = [
        MemberState::Leader,
        MemberState::Follower,
        MemberState::Candidate,
        MemberState::Learner,
        MemberState::Stopped,
    ];
    for (number, state) in states.into_iter().enumerate() {
        assert_eq!(weft_types::codec::encode(&state), [number as u8]);
    }
}

#[test]
fn members() {
    let add = Some(NewMember { id: MemberId::new(4), addr: "127.0.0.1:7400".parse().unwrap(), voter: true });
    check(
        &ChangeMembersRequest { shard: SHARD, add, remove: Some(MemberId::new(2)), force: false },
        &[
            ("00", "shard"),
            ("01 04 00 7f000001 fbe81c 01", "comes: 4, 127.0.0.1:7400, with a vote"),
            ("01 02", "goes: 2"),
            ("00", "not by force"),
        ],
    );
    check(&Reply::Done(MembersChange::CatchingUp { behind: 9 }), &[("00 00 09", "done so far: it lacks 9 entries")]);
    let members = vec![MemberStatus { id: MemberId::new(1), addr: "127.0.0.1:7400".parse().unwrap(), voter: true }];
    let done = Reply::Done(MembersChange::Done { members });
    check(&done, &[("00 01", "done"), ("01 01 00 7f000001 fbe81c 01", "one member: 1, 127.0.0.1:7400, votes")]);
    check(&Reply::Done(MembersChange::Silent { id: MemberId::new(4) }), &[("00 02 04", "done so far: 4 is silent")]);
    check(&TransferLeaderRequest { shard: SHARD, to: None }, &[("00", "shard"), ("00", "to whoever has most")]);
    check(&Reply::Done(MemberId::new(3)), &[("00 03", "done: 3 leads")]);
}
