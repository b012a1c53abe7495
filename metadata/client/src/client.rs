//! Typed calls to whoever can answer them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weft_index::{Digests, Report, ReportAck};
use weft_metadata_proto::v1::{
    AuditRequest, AuditResponse, BackupPiece, BackupRequest, ChangeMembersRequest, DigestsRequest, HolderDigests,
    HolderMatch, JoinRequest, Joined, KeepAliveRequest, LeasesRequest, LeasesResponse, LeaveRequest, LookupRequest,
    LookupResponse, MembersChange, NewMember, OperateRequest, PutEndpointRequest, RemoveEndpointRequest, Reply,
    ReportRequest, RevokedRequest, RevokedResponse, RosterRequest, StatusRequest, StatusResponse, TenantsRequest,
    TenantsResponse, TransferLeaderRequest, WatchScope, method,
};
use weft_transport::{CallError, Fabric, RefusalCode, Subscription, Target};
use weft_types::rpc::Method;
use weft_types::{
    ByteSize, EndpointId, EndpointSpec, HolderGrant, Incarnation, IndexKey, MemberId, NodeId, NodeSpec, Operated,
    OperatorAction, RequestId, Role, Roster, ShardId,
};

use crate::attempts::{Attempts, Jitter};
use crate::group::Group;
use crate::{Follower, FollowerMetrics, MetadataError};

/// The one group of this version.
pub(crate) const SHARD: ShardId = ShardId::new(0);

/// How long a member that did not answer is left alone while others do: about as long as an election. An attempt there would
/// take half a second, in which the others elect a leader unseen.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// Calls the metadata group. Clone is cheap; clones share what is known of the group.
///
/// Every call takes the deadline after which its caller no longer wants the answer.
#[derive(Clone, Debug)]
pub struct MetadataClient {
    pub(crate) fabric: Fabric,
    pub(crate) group: Arc<Mutex<Group>>,
    pub(crate) jitter: Jitter,
}

impl MetadataClient {
    /// `members`: fabric addresses of any non-empty part of the group; the rest is learnt.
    ///
    /// # Panics
    /// If `members` is empty.
    #[must_use]
    pub fn new(fabric: Fabric, members: Vec<SocketAddr>) -> Self {
        Self { fabric, group: Arc::new(Mutex::new(Group::new(members))), jitter: Jitter::new(rand::random()) }
    }

    /// As it is, but for the jitter of its pauses, which a simulation decides.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_jitter(self, seed: u64) -> Self {
        Self { jitter: Jitter::new(seed), ..self }
    }

    /// Members known so far.
    #[must_use]
    pub fn members(&self) -> Vec<SocketAddr> {
        self.group.lock().members().to_vec()
    }

    /// Joins, or joins again: every call grants new holder numbers, under which reports are numbered from 1.
    ///
    /// # Errors
    /// No leader answered in time, or the directory refused.
    pub async fn join(&self, node: &NodeSpec, deadline: Duration) -> Result<Joined, MetadataError> {
        let request = JoinRequest { shard: SHARD, node: node.clone() };
        self.write::<method::Join, _>(&request, deadline).await
    }

    /// Renews the liveness lease. `false`: unknown there (it expired, or is at another incarnation); join again.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn keep_alive(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        deadline: Duration,
    ) -> Result<bool, MetadataError> {
        let request = KeepAliveRequest { shard: SHARD, node: node.clone(), incarnation };
        self.write::<method::KeepAlive, _>(&request, deadline).await
    }

    /// Leaves properly: its holders are gone from every lookup at once.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn leave(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        deadline: Duration,
    ) -> Result<(), MetadataError> {
        let request = LeaveRequest { shard: SHARD, node: node.clone(), incarnation };
        self.write::<method::Leave, _>(&request, deadline).await
    }

    /// Puts an endpoint, or puts it again: every call grants new numbers to its device holders, in order of rank.
    ///
    /// # Errors
    /// No leader answered in time, the directory refused, or a contract disagrees with the agreed one.
    pub async fn put_endpoint(
        &self,
        endpoint: &EndpointSpec,
        deadline: Duration,
    ) -> Result<Vec<HolderGrant>, MetadataError> {
        let request = PutEndpointRequest { shard: SHARD, endpoint: endpoint.clone() };
        self.write::<method::PutEndpoint, _>(&request, deadline).await
    }

    /// Removes an endpoint, unless it is at a later incarnation.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn remove_endpoint(
        &self,
        endpoint: &EndpointId,
        incarnation: Incarnation,
        deadline: Duration,
    ) -> Result<(), MetadataError> {
        let request = RemoveEndpointRequest { shard: SHARD, endpoint: endpoint.clone(), incarnation };
        self.write::<method::RemoveEndpoint, _>(&request, deadline).await
    }

    /// Sends reports to the leader; returns after commit, one ack each, in order. After an error, send the same again.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn report(&self, reports: &[Report], deadline: Duration) -> Result<Vec<ReportAck>, MetadataError> {
        let request = ReportRequest { shard: SHARD, reports: reports.to_vec() };
        self.write::<method::Report, _>(&request, deadline).await
    }

    /// Compares what a granted holder holds with what is listed of it; `None`: this life of it is over, and what was granted
    /// must be granted anew.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn digests(
        &self,
        grant: &HolderGrant,
        held: &Digests,
        deadline: Duration,
    ) -> Result<Option<HolderDigests>, MetadataError> {
        let (holder, generation) = (grant.holder, grant.generation);
        let request = DigestsRequest { shard: SHARD, holder, generation, blocks: held.blocks(), groups: held.groups() };
        self.write::<method::Digests, _>(&request, deadline).await
    }

    /// Leading blocks by holder, longest first, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn lookup(
        &self,
        prefix: &[IndexKey],
        deadline: Duration,
    ) -> Result<Vec<(HolderGrant, u32)>, MetadataError> {
        let response = self.lookup_as_of(prefix, deadline).await?;
        Ok(response.matches.into_iter().map(|HolderMatch { grant, blocks }| (grant, blocks)).collect())
    }

    /// The same, with the log index that the member which answered had applied.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn lookup_as_of(&self, prefix: &[IndexKey], deadline: Duration) -> Result<LookupResponse, MetadataError> {
        let request = LookupRequest { shard: SHARD, prefix: prefix.to_vec() };
        self.read::<method::Lookup>(&request, deadline).await
    }

    /// Nodes, endpoints, holders, contracts, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn roster(&self, deadline: Duration) -> Result<Roster, MetadataError> {
        Ok(self.read::<method::Roster>(&RosterRequest { shard: SHARD }, deadline).await?.roster)
    }

    /// How one member is. The members it names are learnt.
    ///
    /// # Errors
    /// It did not answer in time.
    pub async fn status(&self, member: SocketAddr, deadline: Duration) -> Result<StatusResponse, MetadataError> {
        let request = StatusRequest { shard: SHARD };
        let answer = self.fabric.call::<method::Status>(&target(member), &request, deadline).await;
        let status = answer.map_err(|error| self.unavailable(deadline, error.to_string()))?;
        let mut group = self.group.lock();
        status.members.iter().for_each(|member| group.learn(member.addr));
        drop(group);
        Ok(status)
    }

    /// Changes the group: one member comes, one goes, or one takes another's place. Ask again while the new one catches up.
    ///
    /// # Errors
    /// No leader answered in time, or it refused.
    pub async fn change_members(
        &self,
        add: Option<NewMember>,
        remove: Option<MemberId>,
        force: bool,
        deadline: Duration,
    ) -> Result<MembersChange, MetadataError> {
        let request = ChangeMembersRequest { shard: SHARD, add, remove, force };
        self.write::<method::ChangeMembers, _>(&request, deadline).await
    }

    /// Begins a backup of what `member` has applied: the bytes of a snapshot file, in order, to their end.
    ///
    /// # Errors
    /// It did not answer in time, or refused.
    pub async fn backup(
        &self,
        member: SocketAddr,
        deadline: Duration,
    ) -> Result<Subscription<BackupPiece>, MetadataError> {
        let request = BackupRequest { shard: SHARD };
        let begun = self.fabric.subscribe::<method::Backup>(&target(member), &request, deadline).await;
        begun.map_err(|error| self.unavailable(deadline, error.to_string()))
    }

    /// Hands leadership to `to`, or to whoever has most of the log. Returns who leads.
    ///
    /// # Errors
    /// No leader answered in time, or it could not.
    pub async fn transfer_leader(&self, to: Option<MemberId>, deadline: Duration) -> Result<MemberId, MetadataError> {
        self.write::<method::TransferLeader, _>(&TransferLeaderRequest { shard: SHARD, to }, deadline).await
    }

    /// Follows the watch in the background until the follower and its clones are dropped. Its index never takes more than
    /// `bytes`, if they are given: what was matched least recently leaves first. Must be called inside a tokio runtime.
    #[must_use]
    pub fn follow(&self, bytes: Option<ByteSize>, metrics: FollowerMetrics) -> Follower {
        Follower::start(self.clone(), WatchScope::Directory, None, bytes, metrics)
    }

    /// As [`MetadataClient::follow`], with the blocks of these models only, by name or alias: those of engines that serve them, and of
    /// nodes at which such engines are or were.
    #[must_use]
    pub fn follow_models(
        &self,
        models: BTreeSet<String>,
        bytes: Option<ByteSize>,
        metrics: FollowerMetrics,
    ) -> Follower {
        Follower::start(self.clone(), WatchScope::Directory, Some(models), bytes, metrics)
    }

    /// Follows tenants, sharing groups, leases and the deny list only: what a node needs. Its index and roster stay empty.
    #[must_use]
    pub fn follow_accounts(&self, metrics: FollowerMetrics) -> Follower {
        Follower::start(self.clone(), WatchScope::Accounts, None, None, metrics)
    }

    /// Asks for a change as an operator. It is done once, however often it must be sent.
    ///
    /// # Errors
    /// No leader answered in time, or the directory refused.
    pub async fn operate(&self, action: OperatorAction, deadline: Duration) -> Result<Operated, MetadataError> {
        self.operate_numbered(RequestId::new(rand::random()), action, deadline).await
    }

    /// As [`Self::operate`], under a number that a simulation chooses.
    #[cfg(feature = "testing")]
    #[expect(clippy::missing_errors_doc, reason = "as operate")]
    pub async fn operate_as(
        &self,
        request: RequestId,
        action: OperatorAction,
        deadline: Duration,
    ) -> Result<Operated, MetadataError> {
        self.operate_numbered(request, action, deadline).await
    }

    async fn operate_numbered(
        &self,
        request: RequestId,
        action: OperatorAction,
        deadline: Duration,
    ) -> Result<Operated, MetadataError> {
        let request = OperateRequest { shard: SHARD, request, action };
        self.write::<method::Operate, _>(&request, deadline).await
    }

    /// Tenants and sharing groups without their secrets, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn tenants(&self, deadline: Duration) -> Result<TenantsResponse, MetadataError> {
        self.read::<method::Tenants>(&TenantsRequest { shard: SHARD }, deadline).await
    }

    /// Leases without their blocks, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn leases(&self, deadline: Duration) -> Result<LeasesResponse, MetadataError> {
        self.read::<method::Leases>(&LeasesRequest { shard: SHARD }, deadline).await
    }

    /// What operators asked for last, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn audit(&self, last: u32, deadline: Duration) -> Result<AuditResponse, MetadataError> {
        self.read::<method::Audit>(&AuditRequest { shard: SHARD, last }, deadline).await
    }

    /// The deny list, from any member's applied state.
    ///
    /// # Errors
    /// No member answered in time.
    pub async fn revoked(&self, deadline: Duration) -> Result<RevokedResponse, MetadataError> {
        self.read::<method::Revoked>(&RevokedRequest { shard: SHARD }, deadline).await
    }

    /// Asks who leads, or is said to, until somebody has answered as the leader.
    async fn write<M, T>(&self, request: &M::Request, deadline: Duration) -> Result<T, MetadataError>
    where
        M: Method<Response = Reply<T>>,
    {
        let mut attempts = Attempts::new(deadline, &self.jitter);
        let mut member = self.group.lock().writer();
        let (mut failed, mut hinted): (Option<(SocketAddr, Instant)>, _) = (None, false);
        let mut last = "the deadline had passed".to_owned();
        while let Some(limit) = attempts.next() {
            match self.fabric.call::<M>(&target(member), request, limit).await {
                Ok(Reply::Done(answer)) => {
                    self.group.lock().leads(member);
                    return Ok(answer);
                }
                Ok(Reply::Refused(reason)) => return Err(MetadataError::Refused(reason)),
                Ok(Reply::Conflict(conflict)) => return Err(conflict.into()),
                Ok(Reply::NotLeader { leader }) => {
                    last = format!("{member} does not lead");
                    // Where nobody answered just now is not worth an attempt, whoever says that it leads.
                    let silent = failed.filter(|(_, at)| at.elapsed() < SILENT_FOR).map(|(silent, _)| silent);
                    let hint = leader.filter(|leader| *leader != member && silent != Some(*leader));
                    member = self.group.lock().redirected(member, hint, silent);
                    // The first hint is followed at once; members that name each other are not asked in a tight loop.
                    if hint.is_some() && !std::mem::replace(&mut hinted, true) {
                        continue;
                    }
                }
                Err(error) => {
                    last = retriable(error)?;
                    failed = Some((member, Instant::now()));
                    member = self.group.lock().failed(member);
                }
            }
            attempts.pause().await;
            hinted = false;
        }
        Err(self.unavailable(deadline, last))
    }

    /// Asks whoever answered last, then the others in turn.
    async fn read<M: Method>(&self, request: &M::Request, deadline: Duration) -> Result<M::Response, MetadataError> {
        let mut attempts = Attempts::new(deadline, &self.jitter);
        let mut member = self.group.lock().reader();
        let mut last = "the deadline had passed".to_owned();
        while let Some(limit) = attempts.next() {
            match self.fabric.call::<M>(&target(member), request, limit).await {
                Ok(answer) => {
                    self.group.lock().answered(member);
                    return Ok(answer);
                }
                Err(error) => last = retriable(error)?,
            }
            member = self.group.lock().failed(member);
            attempts.pause().await;
        }
        Err(self.unavailable(deadline, last))
    }

    fn unavailable(&self, after: Duration, last: String) -> MetadataError {
        MetadataError::Unavailable { members: self.members(), after, last }
    }
}

/// A member of the group, whichever it is.
pub(crate) fn target(member: SocketAddr) -> Target {
    Target { addr: member, role: Role::Metadata, name: None }
}

/// What went wrong, if another attempt may go right.
fn retriable(error: CallError) -> Result<String, MetadataError> {
    match &error {
        CallError::Refused { refusal, .. } => match refusal.code {
            RefusalCode::Forbidden | RefusalCode::UnknownMethod | RefusalCode::BadRequest => {
                Err(MetadataError::Refused(error.to_string()))
            }
            _ => Ok(error.to_string()),
        },
        CallError::TooLong { .. } => Err(MetadataError::Refused(error.to_string())),
        _ => Ok(error.to_string()),
    }
}
