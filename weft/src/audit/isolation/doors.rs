//! The doors of members and nodes: who has another role, or a certificate of another CA, is let in at none.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use weft_metadata_proto::v1::{JoinRequest, OperateRequest, ReportRequest, TenantsRequest, method};
use weft_node::{Inventory, InventoryRequest};
use weft_service::certs::Ca;
use weft_transport::{
    BlockRefusal, BlockSink, CallError, Fabric, FetchError, FetchRequest, Identity, Metrics, Profile, RefusalCode,
    Target,
};
use weft_types::rpc::Method;
use weft_types::{BlockHash, Checksum, Contract, NodeSpec, OperatorAction, RequestId, Role, Roster, ShardId};

use super::report::{Finding, Numbers};
use super::tenants::Pair;
use crate::cluster::Cluster;

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Certificates for the audit are good for a day.
const DAYS: u32 = 1;
const SHARD: ShardId = ShardId::new(0);

/// Tries every door, if there is a CA to make certificates with.
pub(super) async fn try_all(
    ca: Option<&Path>,
    cluster: &Cluster,
    roster: &Roster,
    contracts: &[&Contract],
    blocks: &[BlockHash],
    pair: &Pair,
) -> anyhow::Result<Vec<Finding>> {
    let Some(folder) = ca else {
        let saw = "give the folder of the cluster's CA with --ca-folder, on a host that may have it".to_owned();
        let (name, says) = ("doors".to_owned(), "A certificate of another role opens no door".to_owned());
        return Ok(vec![Finding { name, says, control: None, holds: true, saw, numbers: Numbers::default() }]);
    };
    let ca = Ca::load(folder)?;
    let stranger = Ca::create(ca.cluster())?;
    let Some(member) = cluster.client.members().first().copied() else { bail!("no member is known") };
    let Some(node) = roster.nodes.values().next() else { bail!("no node is in the roster: there is no door to try") };
    let block_bytes = contracts.first().map_or(0, |contract| contract.block_bytes());
    let doors = Doors { member, node, blocks: blocks.to_vec(), block_bytes };
    let visitor = |ca: &Ca, role: Role| Visitor::new(ca, role, member);
    let (router, thief) = (visitor(&ca, Role::Router)?, visitor(&ca, Role::Node)?);
    let (admin, outsider) = (visitor(&ca, Role::Admin)?, visitor(&stranger, Role::Admin)?);

    let salt = |pair: &Pair| OperatorAction::ReadSalt { tenant: pair.a.tenant.clone() };
    let mut tried = Tried::default();
    tried.add("a router's", "read a tenant's salt", doors.operate(&router, salt(pair)).await);
    tried.add("a router's", "list tenants", doors.tenants(&router).await);
    tried.add("a router's", "report blocks as a node", doors.report(&router).await);
    tried.add("a router's", "ask a node what it holds", doors.inventory(&router).await);
    tried.add("a router's", "fetch a tenant's blocks by their hashes", doors.fetch(&router).await);
    tried.add("an operator's", "fetch a tenant's blocks by their hashes", doors.fetch(&admin).await);
    tried.add("another node's", "read a tenant's salt", doors.operate(&thief, salt(pair)).await);
    tried.add("another node's", "join under a node's name", doors.join(&thief).await);
    tried.add("another node's", "ask a node what it holds", doors.inventory(&thief).await);
    tried.add("another CA's", "list tenants", doors.tenants(&outsider).await);
    tried.add("another CA's", "ask a node what it holds", doors.inventory(&outsider).await);
    // The same doors open for whom they are: what was refused was refused for who asked.
    let opens = [doors.tenants(&admin).await, doors.inventory(&admin).await, doors.fetch(&thief).await];
    let closed: Vec<String> =
        opens.into_iter().filter_map(|outcome| outcome.err().map(|error| error.to_string())).collect();
    for visitor in [router, thief, admin, outsider] {
        visitor.fabric.close().await;
    }
    Ok(vec![tried.finding(&closed)])
}

/// Somebody with a certificate.
struct Visitor {
    fabric: Fabric,
}

impl Visitor {
    fn new(ca: &Ca, role: Role, peer: SocketAddr) -> anyhow::Result<Self> {
        let issued = ca.issue(role.as_str(), "audit", DAYS)?;
        let identity = Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem())?;
        let addr = crate::cluster::unspecified(peer);
        let metrics = Metrics::register(&prometheus::Registry::new());
        Ok(Self { fabric: Fabric::bind(addr, Profile::Control, &identity, metrics)? })
    }
}

/// Where they knock.
struct Doors<'a> {
    member: SocketAddr,
    node: &'a NodeSpec,
    blocks: Vec<BlockHash>,
    block_bytes: u64,
}

/// Let in; or why not.
type Outcome = Result<(), CallError>;

impl Doors<'_> {
    async fn call<M: Method>(&self, visitor: &Visitor, to: &Target, request: &M::Request) -> Outcome {
        visitor.fabric.call::<M>(to, request, WITHIN).await.map(|_| ())
    }

    fn metadata(&self) -> Target {
        Target { addr: self.member, role: Role::Metadata, name: None }
    }

    fn at_node(&self, addr: SocketAddr) -> Target {
        Target { addr, role: Role::Node, name: Some(self.node.id.name().clone()) }
    }

    async fn operate(&self, visitor: &Visitor, action: OperatorAction) -> Outcome {
        let request = OperateRequest { shard: SHARD, request: RequestId::new(rand::random()), action };
        self.call::<method::Operate>(visitor, &self.metadata(), &request).await
    }

    async fn tenants(&self, visitor: &Visitor) -> Outcome {
        self.call::<method::Tenants>(visitor, &self.metadata(), &TenantsRequest { shard: SHARD }).await
    }

    async fn report(&self, visitor: &Visitor) -> Outcome {
        let request = ReportRequest { shard: SHARD, reports: Vec::new() };
        self.call::<method::Report>(visitor, &self.metadata(), &request).await
    }

    async fn join(&self, visitor: &Visitor) -> Outcome {
        let request = JoinRequest { shard: SHARD, node: self.node.clone() };
        self.call::<method::Join>(visitor, &self.metadata(), &request).await
    }

    async fn inventory(&self, visitor: &Visitor) -> Outcome {
        self.call::<Inventory>(visitor, &self.at_node(self.node.fabric), &InventoryRequest {}).await
    }

    async fn fetch(&self, visitor: &Visitor) -> Outcome {
        let request = FetchRequest { blocks: self.blocks.clone(), block_bytes: self.block_bytes };
        match visitor.fabric.fetch(&self.at_node(self.node.bulk), request, &mut Nothing, WITHIN).await {
            Ok(_) => Ok(()),
            Err(FetchError::Call(error)) => Err(error),
            Err(error) => Err(CallError::Broken { addr: self.node.bulk, reason: error.to_string() }),
        }
    }
}

/// Keeps no byte.
struct Nothing;

impl BlockSink for Nothing {
    fn chunk(&mut self, _index: usize, _offset: u64, _bytes: &[u8]) {}
    fn complete(&mut self, _index: usize, _checksum: Checksum) {}
    fn refused(&mut self, _index: usize, _refusal: BlockRefusal) {}
}

#[derive(Default)]
struct Tried {
    doors: usize,
    open: Vec<String>,
    /// Neither let in nor refused for who they are.
    unclear: Vec<String>,
}

impl Tried {
    fn add(&mut self, whose: &str, what: &str, outcome: Outcome) {
        self.doors += 1;
        let door = || format!("{whose} certificate, to {what}");
        match outcome {
            Ok(()) => self.open.push(door()),
            Err(CallError::Refused { refusal, .. }) if refusal.code == RefusalCode::Forbidden => {}
            // Of another CA: nobody is met at all.
            Err(CallError::Connect { .. }) if whose == "another CA's" => {}
            Err(error) => self.unclear.push(format!("{} ({error})", door())),
        }
    }

    fn finding(self, closed: &[String]) -> Finding {
        let mut saw = format!("{} of {} doors opened", self.open.len(), self.doors);
        for (what, which) in [("opened", &self.open), ("unclear", &self.unclear)] {
            if !which.is_empty() {
                saw += &format!("; {what}: {}", which.join(", "));
            }
        }
        match closed.is_empty() {
            true => saw += "; each opens for whom it is meant",
            false => saw += &format!("; closed even to whom they are meant for: {}", closed.join(", ")),
        }
        Finding {
            name: "doors".to_owned(),
            says: "A certificate of another role, another node's name or another CA opens no door".to_owned(),
            control: Some(closed.is_empty() && self.unclear.is_empty()),
            holds: self.open.is_empty(),
            saw,
            numbers: Numbers::default(),
        }
    }
}
