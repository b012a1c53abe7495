//! The caller's side of Raft's procedures: one client a peer, over the fabric's pooled connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, SnapshotMismatch, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{AnyError, BasicNode};
use weft_transport::{CallError, Fabric, Target};
use weft_types::rpc::Method;
use weft_types::{Name, Role};

use super::Types;
use super::wire::{self, AppendMessage, SnapshotMessage, SnapshotReply};

/// How long a peer that cannot be reached is left alone. Shorter than an election, so that a member that came back hears
/// from its leader before it calls for one.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(150);

/// Makes a client for each peer.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    me: u64,
    fabric: Fabric,
    /// As configured: these win over the addresses in the log, which may be of an earlier deployment.
    members: BTreeMap<u64, SocketAddr>,
}

/// Client of one peer.
#[derive(Debug)]
pub(crate) struct Peer {
    me: u64,
    id: u64,
    fabric: Fabric,
    /// `None`: nobody told us a usable address.
    target: Option<Target>,
}

impl Network {
    pub(crate) fn new(me: u64, fabric: Fabric, members: BTreeMap<u64, SocketAddr>) -> Self {
        Self { me, fabric, members }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Peer {
        let addr = self.members.get(&id).copied().or_else(|| node.addr.parse().ok());
        let name: Name = id.to_string().parse().expect("digits are a name");
        let target = addr.map(|addr| Target { addr, role: Role::Metadata, name: Some(name) });
        Peer { me: self.me, id, fabric: self.fabric.clone(), target }
    }
}

impl Peer {
    async fn call<M: Method, E: std::error::Error>(
        &self,
        request: &M::Request,
        kind: RPCTypes,
        option: &RPCOption,
    ) -> Result<M::Response, RPCError<u64, BasicNode, E>> {
        let Some(target) = &self.target else {
            let reason = AnyError::error(format!("member {} has no usable address: list it in `members`", self.id));
            return Err(Unreachable::new(&reason).into());
        };
        self.fabric.call::<M>(target, request, option.hard_ttl()).await.map_err(|error| match error {
            CallError::Connect { .. } => Unreachable::new(&error).into(),
            CallError::Deadline { after, .. } => {
                Timeout { action: kind, id: self.me, target: self.id, timeout: after }.into()
            }
            error => NetworkError::new(&error).into(),
        })
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let message = AppendMessage(request);
        self.call::<wire::AppendEntries, _>(&message, RPCTypes::AppendEntries, &option).await.map(Into::into)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        self.call::<wire::Vote, _>(&request.into(), RPCTypes::Vote, &option).await.map(Into::into)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, BasicNode, RaftError<u64, InstallSnapshotError>>> {
        let message = SnapshotMessage(request);
        match self.call::<wire::InstallSnapshot, _>(&message, RPCTypes::InstallSnapshot, &option).await? {
            SnapshotReply::Taken(vote) => Ok(InstallSnapshotResponse { vote: vote.into() }),
            SnapshotReply::Mismatch { expected, got } => {
                let mismatch = SnapshotMismatch { expect: expected.into(), got: got.into() };
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RemoteError::new(self.id, error).into())
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
