//! Nodes, endpoints and reports as the tests need them, and the calls that must succeed.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_index::{Change, Report, ReportForm};
use weft_metadata_state::{Applied, Command, Directory, Outcome, ReportAck};
use weft_types::{
    Asker, BlockSize, ByteSize, Contract, EndpointSpec, HolderGrant, Incarnation, IndexKey, LogTime, ModelKey,
    NodeSpec, Operated, OperatorAction, Part, RequestId, Role, Salt, TenantSettings, Tier,
};

pub(crate) fn key(number: u8) -> IndexKey {
    let mut bytes = [number; 16];
    bytes[0] = number.wrapping_mul(37);
    IndexKey::from_bytes(bytes)
}

pub(crate) fn node(id: &str, incarnation: u64) -> NodeSpec {
    NodeSpec {
        id: id.parse().unwrap(),
        incarnation: Incarnation::new(incarnation),
        fabric: "127.0.0.1:7410".parse().unwrap(),
        bulk: "127.0.0.1:7412".parse().unwrap(),
        capacity: [(Tier::Host, ByteSize::from_mib(64)), (Tier::Disk, ByteSize::from_mib(256))].into(),
        labels: BTreeMap::new(),
    }
}

pub(crate) fn contract() -> Contract {
    let model_key = ModelKey {
        model: "sim-8b".into(),
        revision: "sim-1".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "sim:u8:L1:H1:D1:tp1".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: 4096, ranks: vec![0] }];
    let aliases = vec!["sim-8b".into()];
    Contract { model_key, parts, aliases, tokenizer: String::new(), chat_template: String::new() }
}

/// Two data-parallel ranks.
pub(crate) fn endpoint(id: &str, incarnation: u64, node: Option<&str>) -> EndpointSpec {
    EndpointSpec {
        id: id.parse().unwrap(),
        incarnation: Incarnation::new(incarnation),
        url: format!("http://{id}:8000"),
        node: node.map(|node| node.parse().unwrap()),
        ranks: 2,
        contracts: vec![contract()],
    }
}

pub(crate) fn report(grant: &HolderGrant, number: u64, changes: Vec<Change>) -> Report {
    let HolderGrant { holder, generation, incarnation, .. } = *grant;
    Report { holder, generation, incarnation, number, form: ReportForm::default(), changes }
}

pub(crate) fn grants(applied: Applied) -> Vec<HolderGrant> {
    match applied.outcome {
        Outcome::Granted(grants) => grants,
        other => panic!("grants expected, got {other:?}"),
    }
}

pub(crate) fn refusal(applied: Applied) -> String {
    assert_eq!(applied.changes, [], "a refusal changes nothing");
    match applied.outcome {
        Outcome::Refused(reason) => reason,
        other => panic!("a refusal expected, got {other:?}"),
    }
}

/// Asks as an operator would, under a request number of its own, at this time.
pub(crate) fn ask_at(directory: &mut Directory, micros: u64, action: OperatorAction) -> Applied {
    let number = directory.accounts().audit().len() as u64 + 1;
    directory.apply(operator(micros, number, action))
}

/// The same, at no time, and it must be done.
pub(crate) fn ask(directory: &mut Directory, action: OperatorAction) -> Operated {
    match ask_at(directory, 0, action).outcome {
        Outcome::Operated(operated) => operated,
        other => panic!("expected to be done, got {other:?}"),
    }
}

pub(crate) fn operator(micros: u64, number: u64, action: OperatorAction) -> Command {
    Command::Operator {
        at: LogTime::from_micros(micros),
        by: Asker { role: Role::Admin, name: "ops".parse().unwrap() },
        request: RequestId::new(number),
        salt: Salt::from_bytes([u8::try_from(number % 256).unwrap(); 32]),
        action,
    }
}

pub(crate) fn put_tenant(name: &str, lease_blocks_max: u32) -> OperatorAction {
    let settings = TenantSettings { lease_blocks_max, ..TenantSettings::default() };
    OperatorAction::PutTenant { tenant: name.parse().unwrap(), settings, unsalted: false }
}

pub(crate) fn grant_lease(tenant: &str, blocks: impl IntoIterator<Item = u8>, seconds: u64) -> OperatorAction {
    let prefix = blocks.into_iter().map(key).collect();
    OperatorAction::GrantLease { tenant: tenant.parse().unwrap(), prefix, ttl: Duration::from_secs(seconds) }
}

pub(crate) fn join(directory: &mut Directory, node: &NodeSpec) -> Vec<HolderGrant> {
    grants(directory.apply(Command::Join { at: LogTime::ZERO, node: node.clone() }))
}

pub(crate) fn put(directory: &mut Directory, endpoint: &EndpointSpec) -> Vec<HolderGrant> {
    grants(directory.apply(Command::PutEndpoint { at: LogTime::ZERO, endpoint: endpoint.clone() }))
}

pub(crate) fn reports(directory: &mut Directory, reports: Vec<Report>) -> Vec<ReportAck> {
    match directory.apply(Command::Reports { at: LogTime::ZERO, reports }).outcome {
        Outcome::Reports(acks) => acks,
        other => panic!("acks expected, got {other:?}"),
    }
}

pub(crate) fn sweep_all(directory: &mut Directory) {
    while directory.sweep_due() {
        directory.apply(Command::Sweep { at: LogTime::ZERO, budget: 1000 });
    }
}
