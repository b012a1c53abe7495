//! A metadata group of one, without a log: the real directory behind the real messages, on a real socket. What it does
//! wrong it does on purpose: it goes silent, forgets a node, loses what it acknowledged, forgets changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use weft_metadata_proto::v1::{
    DigestsRequest, HolderDigests, HolderMatch, JoinRequest, Joined, KeepAliveRequest, LeaveRequest, LookupRequest,
    LookupResponse, PutEndpointRequest, RemoveEndpointRequest, Reply, ReportRequest, RosterResponse, method,
};
use weft_metadata_state::{Command, Directory, Limits, Outcome};
use weft_service::certs::Ca;
use weft_transport::{Fabric, Identity, Metrics, Profile, Refusal, RefusalCode, Routes};
use weft_types::{BlockHash, EndpointId, HolderKey, LogTime, NodeId, Role, Roster, Tier};

/// Short enough that a test that waits for it is quick.
const LEASE: Duration = Duration::from_millis(400);

const NODES: &[Role] = &[Role::Node];

/// The group. Clones share it.
#[derive(Clone)]
pub(crate) struct Group {
    directory: Arc<Mutex<Directory>>,
    lose: Arc<AtomicUsize>,
    empty: Arc<AtomicUsize>,
    joins: Arc<AtomicUsize>,
    comparisons: Arc<AtomicUsize>,
    puts: Arc<Mutex<Vec<EndpointId>>>,
    identity: Identity,
    fabric: Arc<Mutex<Option<Fabric>>>,
    pub(crate) addr: SocketAddr,
}

impl Group {
    pub(crate) fn start(ca: &Ca) -> Self {
        let issued = ca.issue("metadata", "1", 1).unwrap();
        let identity = Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem()).unwrap();
        let mut group = Self {
            directory: Arc::default(),
            lose: Arc::default(),
            empty: Arc::default(),
            joins: Arc::default(),
            comparisons: Arc::default(),
            puts: Arc::default(),
            identity,
            fabric: Arc::default(),
            addr: "127.0.0.1:0".parse().unwrap(),
        };
        group.addr = group.serve();
        group
    }

    /// Answers again, where it did before.
    pub(crate) fn serve(&self) -> SocketAddr {
        let metrics = Metrics::register(&Registry::new());
        let fabric = Fabric::bind(self.addr, Profile::Control, &self.identity, metrics).unwrap();
        fabric.serve(self.routes());
        let addr = fabric.local_addr();
        *self.fabric.lock() = Some(fabric);
        addr
    }

    /// Answers nobody.
    pub(crate) async fn silence(&self) {
        let fabric = self.fabric.lock().take().unwrap();
        fabric.close().await;
    }

    /// Loses the next `reports` reports that it acknowledges.
    pub(crate) fn lose(&self, reports: usize) {
        self.lose.store(reports, Ordering::Relaxed);
    }

    /// Applies the next `reports` reports without their changes: no number tells of it.
    pub(crate) fn empty(&self, reports: usize) {
        self.empty.store(reports, Ordering::Relaxed);
    }

    /// How often nodes joined.
    pub(crate) fn joins(&self) -> usize {
        self.joins.load(Ordering::Relaxed)
    }

    /// How often a holder was compared.
    pub(crate) fn comparisons(&self) -> usize {
        self.comparisons.load(Ordering::Relaxed)
    }

    /// Sets the directory's bound on blocks.
    pub(crate) fn limit(&self, blocks: u64) {
        let limits = Limits { blocks, ..Limits::default() };
        assert_eq!(
            self.directory.lock().apply(Command::SetLimits { at: LogTime::ZERO, limits }).outcome,
            Outcome::Done
        );
    }

    /// Takes a node for dead.
    pub(crate) fn expire(&self, node: &NodeId) {
        let incarnation = self.roster().nodes[node].incarnation;
        let expire = Command::Expire { at: LogTime::ZERO, node: node.clone(), incarnation };
        assert_eq!(self.directory.lock().apply(expire).outcome, Outcome::Done);
    }

    pub(crate) fn roster(&self) -> Roster {
        self.directory.lock().roster().clone()
    }

    /// Which of the blocks the directory believes to be in a tier of a node, or on the device of an endpoint.
    pub(crate) fn holds(&self, holder: &HolderKey, blocks: &[BlockHash]) -> Vec<bool> {
        let directory = self.directory.lock();
        let grant = directory.roster().holders.values().find(|grant| grant.key == *holder);
        let Some(grant) = grant else { return vec![false; blocks.len()] };
        let held = |block: &BlockHash| {
            directory.leading(&[block.index_key()]).iter().any(|matched| matched.holder == grant.holder)
        };
        blocks.iter().map(held).collect()
    }

    /// How often an endpoint was granted its place.
    pub(crate) fn grants(&self, endpoint: &str) -> usize {
        self.puts.lock().iter().filter(|put| put.name().as_str() == endpoint).count()
    }

    fn apply<T>(&self, command: Command, done: impl FnOnce(Outcome) -> T) -> Result<Reply<T>, Refusal> {
        Ok(match self.directory.lock().apply(command).outcome {
            Outcome::Refused(reason) => Reply::Refused(reason),
            Outcome::Conflict(conflict) => Reply::Conflict(conflict),
            outcome => Reply::Done(done(outcome)),
        })
    }

    fn routes(&self) -> Routes {
        let at = LogTime::ZERO;
        let group = || self.clone();
        let (join, beat, leave, put, remove) = (group(), group(), group(), group(), group());
        let (report, lookup, roster, digests) = (group(), group(), group(), group());
        let granted = |outcome| match outcome {
            Outcome::Granted(grants) => grants,
            other => panic!("{other:?}"),
        };
        Routes::new()
            .rpc::<method::Join, _, _>(NODES, move |_, JoinRequest { node, .. }| {
                join.joins.fetch_add(1, Ordering::Relaxed);
                let joined = |outcome| Joined { grants: granted(outcome), lease: LEASE };
                std::future::ready(join.apply(Command::Join { at, node }, joined))
            })
            .rpc::<method::KeepAlive, _, _>(NODES, move |_, KeepAliveRequest { node, incarnation, .. }| {
                let known = beat.roster().nodes.get(&node).is_some_and(|known| known.incarnation == incarnation);
                std::future::ready(Ok(Reply::Done(known)))
            })
            .rpc::<method::Leave, _, _>(NODES, move |_, LeaveRequest { node, incarnation, .. }| {
                std::future::ready(leave.apply(Command::Leave { at, node, incarnation }, |_| ()))
            })
            .rpc::<method::PutEndpoint, _, _>(NODES, move |_, PutEndpointRequest { endpoint, .. }| {
                put.puts.lock().push(endpoint.id.clone());
                std::future::ready(put.apply(Command::PutEndpoint { at, endpoint }, granted))
            })
            .rpc::<method::RemoveEndpoint, _, _>(NODES, move |_, request: RemoveEndpointRequest| {
                let RemoveEndpointRequest { endpoint, incarnation, .. } = request;
                std::future::ready(remove.apply(Command::RemoveEndpoint { at, endpoint, incarnation }, |_| ()))
            })
            .rpc::<method::Report, _, _>(NODES, move |_, request| std::future::ready(report.report(request)))
            .rpc::<method::Digests, _, _>(NODES, move |_, DigestsRequest { holder, generation, groups, .. }| {
                digests.comparisons.fetch_add(1, Ordering::Relaxed);
                let directory = digests.directory.lock();
                let listed = directory.digests(holder, generation);
                let compared = listed.map(|(number, listed)| HolderDigests::compare(number, listed, &groups));
                std::future::ready(Ok(Reply::Done(compared)))
            })
            .rpc::<method::Lookup, _, _>(NODES, move |_, request| std::future::ready(Ok(lookup.lookup(&request))))
            .rpc::<method::Roster, _, _>(NODES, move |_, _| {
                std::future::ready(Ok(RosterResponse { applied: 0, roster: roster.roster() }))
            })
    }

    fn report(
        &self,
        ReportRequest { mut reports, .. }: ReportRequest,
    ) -> Result<Reply<Vec<weft_index::ReportAck>>, Refusal> {
        let lost = self.lose.load(Ordering::Relaxed).min(reports.len());
        self.lose.fetch_sub(lost, Ordering::Relaxed);
        let mut acks: Vec<_> =
            reports.drain(..lost).map(|report| weft_index::ReportAck::Applied { number: report.number }).collect();
        let emptied = self.empty.load(Ordering::Relaxed).min(reports.len());
        self.empty.fetch_sub(emptied, Ordering::Relaxed);
        reports[..emptied].iter_mut().for_each(|report| report.changes.clear());
        let applied = self.apply(Command::Reports { at: LogTime::ZERO, reports }, |outcome| match outcome {
            Outcome::Reports(acks) => acks,
            other => panic!("{other:?}"),
        })?;
        let Reply::Done(rest) = applied else {
            return Err(Refusal { code: RefusalCode::Failed, message: "the directory refuses reports".to_owned() });
        };
        acks.extend(rest);
        Ok(Reply::Done(acks))
    }

    fn lookup(&self, request: &LookupRequest) -> LookupResponse {
        let directory = self.directory.lock();
        let matches = directory.leading(&request.prefix).into_iter();
        let matches = matches.map(|matched| HolderMatch {
            grant: directory.roster().holders[&matched.holder].clone(),
            blocks: matched.blocks,
        });
        LookupResponse { applied: 0, matches: matches.collect() }
    }
}

/// The host tier of a node.
pub(crate) fn host(node: &str) -> HolderKey {
    HolderKey::Node { node: node.parse().unwrap(), tier: Tier::Host }
}

/// The disk tier of a node.
pub(crate) fn disk(node: &str) -> HolderKey {
    HolderKey::Node { node: node.parse().unwrap(), tier: Tier::Disk }
}

/// The device tier of an engine.
pub(crate) fn device(endpoint: &str) -> HolderKey {
    HolderKey::Device { endpoint: endpoint.parse().unwrap(), rank: 0 }
}
