//! The service on the fabric: who may ask what, and what they are answered.
//!
//! | method | roles | besides |
//! |---|---|---|
//! | `Join`, `KeepAlive`, `Leave` | node | only for itself: its certificate's name is the node's |
//! | `PutEndpoint`, `RemoveEndpoint` | node | only endpoints attached to it |
//! | `Report` | node | only holders of its tiers and of endpoints attached to it |
//! | `Digests` | node | likewise |
//! | `Lookup`, `Roster` | node, router, admin | any member answers, from what it has applied |
//! | `Watch` | router; node for accounts only | any member; salts and key hashes go to routers only |
//! | `Status`, `Tenants`, `Leases`, `Audit`, `Revoked` | admin | any member; without secrets |
//! | `Operate` | admin | through the log, under the name in the certificate |
//! | `Backup` | admin | any member |
//! | `ChangeMembers`, `TransferLeader` | admin | |
//!
//! What only the leader can answer, another member answers with where the leader is.

pub(crate) mod backup;
pub(crate) mod chores;
pub(crate) mod liveness;
mod operate;
pub(crate) mod reports;
pub(crate) mod status;
pub(crate) mod watch;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::info;
use weft_index::ReportAck;
use weft_metadata_proto::v1::{
    ChangeMembersRequest, DigestsRequest, HolderDigests, HolderMatch, JoinRequest, Joined, KeepAliveRequest,
    LeaveRequest, LookupRequest, LookupResponse, MembersChange, PutEndpointRequest, RemoveEndpointRequest, Reply,
    ReportRequest, RosterRequest, RosterResponse, StatusRequest, StatusResponse, TransferLeaderRequest, method,
};
use weft_metadata_state::{Command, Outcome};
use weft_transport::{Peer, Refusal, RefusalCode, Routes};
use weft_types::{
    EndpointId, Generation, HolderGrant, HolderId, HolderKey, LogTime, MemberId, NodeId, Role, Roster, ShardId,
};

use self::liveness::Liveness;
use self::reports::{Folder, ReportError};
use self::watch::Watches;
use crate::group::{Group, ProposeError};
use crate::log::LogStore;
use crate::members::Members;
use crate::metrics::Metrics;

/// Commands of nodes, reports apart, that may wait for the log at a time: some for each node that the roster takes.
pub(crate) const PROPOSALS_MAX: usize = 2048;

const NODES: &[Role] = &[Role::Node];
const WATCHERS: &[Role] = &[Role::Router, Role::Node];
const READERS: &[Role] = &[Role::Node, Role::Router, Role::Admin];
const OPERATORS: &[Role] = &[Role::Admin];
/// Who may ask how a member is: a router shows it on its console.
const WATCHMEN: &[Role] = &[Role::Admin, Role::Router];

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) group: Group,
    pub(crate) log: LogStore,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) reports: Folder,
    pub(crate) watches: Arc<Watches>,
    pub(crate) members: Members,
    /// Room for commands; see [`PROPOSALS_MAX`].
    pub(crate) proposals: Semaphore,
    pub(crate) metrics: Metrics,
}

/// What a handler gives.
type Answer<T> = Result<T, Refusal>;

impl Service {
    /// Adds its methods.
    pub(crate) fn routes(self: Arc<Self>, routes: Routes) -> Routes {
        macro_rules! rpc {
            ($routes:expr, $method:ident, $roles:expr, $handler:ident) => {{
                let service = self.clone();
                $routes.rpc::<method::$method, _, _>($roles, move |peer, request| {
                    let service = service.clone();
                    async move {
                        check_shard(request.shard)?;
                        service.$handler(&peer, request).await
                    }
                })
            }};
        }
        let routes = rpc!(routes, Join, NODES, join);
        let routes = rpc!(routes, KeepAlive, NODES, keep_alive);
        let routes = rpc!(routes, Leave, NODES, leave);
        let routes = rpc!(routes, PutEndpoint, NODES, put_endpoint);
        let routes = rpc!(routes, RemoveEndpoint, NODES, remove_endpoint);
        let routes = rpc!(routes, Report, NODES, report);
        let routes = rpc!(routes, Digests, NODES, digests);
        let routes = rpc!(routes, Lookup, READERS, lookup);
        let routes = rpc!(routes, Roster, READERS, roster);
        let routes = rpc!(routes, Status, WATCHMEN, status);
        let routes = rpc!(routes, ChangeMembers, OPERATORS, change_members);
        let routes = rpc!(routes, TransferLeader, OPERATORS, transfer_leader);
        let machine = self.group.machine.clone();
        let routes = routes.subscription::<method::Backup, _, _>(OPERATORS, move |peer, request, publisher| {
            let machine = machine.clone();
            async move {
                check_shard(request.shard)?;
                info!(operator = %peer.name, "backup asked");
                backup::serve(machine, publisher).await
            }
        });
        let routes = rpc!(routes, Operate, OPERATORS, operate);
        let routes = rpc!(routes, Tenants, OPERATORS, tenants);
        let routes = rpc!(routes, Leases, OPERATORS, leases);
        let routes = rpc!(routes, Audit, OPERATORS, audit);
        let routes = rpc!(routes, Revoked, OPERATORS, revoked);
        let watches = self.watches.clone();
        routes.subscription::<method::Watch, _, _>(WATCHERS, move |peer, request, publisher| {
            let watches = watches.clone();
            async move {
                check_shard(request.shard)?;
                watches.serve(peer, request, publisher).await
            }
        })
    }

    async fn join(&self, peer: &Peer, request: JoinRequest) -> Answer<Reply<Joined>> {
        let node = request.node;
        check_self(peer, &node.id)?;
        let (id, incarnation) = (node.id.clone(), node.incarnation);
        let reply = reply(self.propose(|at| Command::Join { at, node }).await?, granted)?;
        Ok(match reply {
            Reply::Done(grants) => {
                if let Some(leadership) = self.group.leadership() {
                    self.liveness.renew(leadership, &id, incarnation, Instant::now());
                }
                Reply::Done(Joined { grants, lease: self.liveness.term() })
            }
            Reply::NotLeader { leader } => Reply::NotLeader { leader },
            Reply::Refused(reason) => Reply::Refused(reason),
            Reply::Conflict(conflict) => Reply::Conflict(conflict),
        })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    async fn keep_alive(&self, peer: &Peer, request: KeepAliveRequest) -> Answer<Reply<bool>> {
        check_self(peer, &request.node)?;
        let Some(leadership) = self.group.leadership() else {
            return Ok(Reply::NotLeader { leader: self.group.leader_addr() });
        };
        let roster = &self.group.machine.glance().roster;
        let known = roster.nodes.get(&request.node).is_some_and(|node| node.incarnation == request.incarnation);
        if known {
            self.liveness.renew(leadership, &request.node, request.incarnation, Instant::now());
        }
        Ok(Reply::Done(known))
    }

    async fn leave(&self, peer: &Peer, request: LeaveRequest) -> Answer<Reply<()>> {
        let LeaveRequest { node, incarnation, .. } = request;
        check_self(peer, &node)?;
        reply(self.propose(|at| Command::Leave { at, node, incarnation }).await?, done)
    }

    async fn put_endpoint(&self, peer: &Peer, request: PutEndpointRequest) -> Answer<Reply<Vec<HolderGrant>>> {
        let endpoint = request.endpoint;
        if endpoint.node.as_ref().is_none_or(|node| node.name() != &peer.name) {
            let attached = endpoint.node.as_ref().map_or("no node".to_owned(), ToString::to_string);
            let message =
                format!("endpoint {} is attached to {attached}: node {} may not put it", endpoint.id, peer.name);
            return Err(Refusal::new(RefusalCode::Forbidden, message));
        }
        reply(self.propose(|at| Command::PutEndpoint { at, endpoint }).await?, granted)
    }

    async fn remove_endpoint(&self, peer: &Peer, request: RemoveEndpointRequest) -> Answer<Reply<()>> {
        let RemoveEndpointRequest { endpoint, incarnation, .. } = request;
        if !self.is_of(peer, &endpoint) {
            let message = format!("endpoint {endpoint} is not attached to node {}", peer.name);
            return Err(Refusal::new(RefusalCode::Forbidden, message));
        }
        reply(self.propose(|at| Command::RemoveEndpoint { at, endpoint, incarnation }).await?, done)
    }

    async fn report(&self, peer: &Peer, request: ReportRequest) -> Answer<Reply<Vec<ReportAck>>> {
        self.check_holders(peer, request.reports.iter().map(|report| (report.holder, report.generation)))?;
        if self.group.leadership().is_none() {
            return Ok(Reply::NotLeader { leader: self.group.leader_addr() });
        }
        match self.reports.report(request.reports).await {
            Ok(acks) => Ok(Reply::Done(acks)),
            Err(ReportError::Propose(error)) => reply(Err(error), |_| None),
            Err(error @ ReportError::TooLong { .. }) => Err(Refusal::new(RefusalCode::BadRequest, error.to_string())),
            Err(error @ ReportError::Overloaded) => {
                self.metrics.reports_overloaded.inc();
                Err(Refusal::new(RefusalCode::Overloaded, error.to_string()))
            }
        }
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    async fn digests(&self, peer: &Peer, request: DigestsRequest) -> Answer<Reply<Option<HolderDigests>>> {
        let DigestsRequest { holder, generation, groups, .. } = request;
        self.check_holders(peer, std::iter::once((holder, generation)))?;
        if self.group.leadership().is_none() {
            return Ok(Reply::NotLeader { leader: self.group.leader_addr() });
        }
        let state = self.group.machine.state();
        let listed = state.directory.digests(holder, generation);
        Ok(Reply::Done(listed.map(|(number, listed)| HolderDigests::compare(number, listed, &groups))))
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    async fn lookup(&self, _peer: &Peer, request: LookupRequest) -> Answer<LookupResponse> {
        let _timed = self.metrics.lookup_seconds.start_timer();
        let (found, glance) = self.group.machine.lookup(&request.prefix);
        let holders = &glance.roster.holders;
        let with_grant = |found: weft_index::Match| {
            holders.get(&found.holder).map(|grant| HolderMatch { grant: grant.clone(), blocks: found.blocks })
        };
        Ok(LookupResponse { applied: glance.index, matches: found.into_iter().filter_map(with_grant).collect() })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    async fn roster(&self, _peer: &Peer, _request: RosterRequest) -> Answer<RosterResponse> {
        let glance = self.group.machine.glance();
        Ok(RosterResponse { applied: glance.index, roster: Roster::clone(&glance.roster) })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    async fn status(&self, _peer: &Peer, _request: StatusRequest) -> Answer<StatusResponse> {
        Ok(status::status(&self.group, &self.log))
    }

    async fn change_members(&self, peer: &Peer, request: ChangeMembersRequest) -> Answer<Reply<MembersChange>> {
        info!(operator = %peer.name, add = ?request.add, remove = ?request.remove, force = request.force, "change of members asked");
        Ok(self.members.change(request).await)
    }

    async fn transfer_leader(&self, peer: &Peer, request: TransferLeaderRequest) -> Answer<Reply<MemberId>> {
        info!(operator = %peer.name, to = ?request.to, "transfer of leadership asked");
        Ok(self.members.transfer(request.to.map(MemberId::get)).await)
    }

    async fn propose(&self, command: impl FnOnce(LogTime) -> Command) -> Answer<Result<Outcome, ProposeError>> {
        let Ok(_room) = self.proposals.try_acquire() else {
            let message = format!("{PROPOSALS_MAX} commands wait for the log: try again later");
            return Err(Refusal::new(RefusalCode::Overloaded, message));
        };
        Ok(self.group.propose(command).await)
    }

    /// Whether the endpoint is attached to the peer. One that nobody knows is nobody's: removing it does nothing.
    fn is_of(&self, peer: &Peer, endpoint: &EndpointId) -> bool {
        let glance = self.group.machine.glance();
        let known = glance.roster.endpoints.get(endpoint);
        known.is_none_or(|known| known.node.as_ref().is_some_and(|node| node.name() == &peer.name))
    }

    /// Every holder is the peer's, or that life of its number is over, which the directory answers as fenced: the number may be
    /// another's by now, and who held it before has yet to hear.
    fn check_holders(&self, peer: &Peer, holders: impl Iterator<Item = (HolderId, Generation)>) -> Result<(), Refusal> {
        let roster = &self.group.machine.glance().roster;
        let granted = |(holder, generation): (HolderId, Generation)| {
            roster.holders.get(&holder).filter(|grant| grant.generation == generation)
        };
        for grant in holders.filter_map(granted) {
            let node = match &grant.key {
                HolderKey::Node { node, .. } => Some(node),
                HolderKey::Device { endpoint, .. } => {
                    roster.endpoints.get(endpoint).and_then(|endpoint| endpoint.node.as_ref())
                }
            };
            if node.is_none_or(|node| node.name() != &peer.name) {
                let message =
                    format!("holder {} is {}: node {} may not report for it", grant.holder, grant.key, peer.name);
                return Err(Refusal::new(RefusalCode::Forbidden, message));
            }
        }
        Ok(())
    }
}

fn check_shard(shard: ShardId) -> Result<(), Refusal> {
    match shard.get() {
        0 => Ok(()),
        other => Err(Refusal::new(RefusalCode::BadRequest, format!("shard {other}: this release has shard 0 only"))),
    }
}

fn check_self(peer: &Peer, node: &NodeId) -> Result<(), Refusal> {
    if node.name() == &peer.name {
        return Ok(());
    }
    let message = format!("a request for node {node}, from one whose certificate says {}", peer.name);
    Err(Refusal::new(RefusalCode::Forbidden, message))
}

fn granted(outcome: Outcome) -> Option<Vec<HolderGrant>> {
    match outcome {
        Outcome::Granted(grants) => Some(grants),
        _ => None,
    }
}

fn done(outcome: Outcome) -> Option<()> {
    matches!(outcome, Outcome::Done).then_some(())
}

/// A reply from an outcome; `expected` picks what this method gives.
fn reply<T>(outcome: Result<Outcome, ProposeError>, expected: impl Fn(Outcome) -> Option<T>) -> Answer<Reply<T>> {
    match outcome {
        Ok(Outcome::Refused(reason)) => Ok(Reply::Refused(reason)),
        Ok(Outcome::Conflict(conflict)) => Ok(Reply::Conflict(conflict)),
        Ok(outcome) => Ok(Reply::Done(expected(outcome).expect("each command has one kind of outcome"))),
        Err(ProposeError::NotLeader { leader }) => Ok(Reply::NotLeader { leader }),
        Err(error) => Err(Refusal::new(RefusalCode::Failed, error.to_string())),
    }
}
