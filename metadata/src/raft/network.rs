//! The caller's side of Raft's procedures: one client a peer, over the fabric's pooled connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{OptionalSend, Snapshot};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};
use weft_transport::{CallError, Fabric, Target};
use weft_types::rpc::Method;
use weft_types::{Name, Role};

use super::wire::{self, AppendMessage, VoteMessage};
use super::{DiskId, LineageId, MemberNode, Types, outgoing};
use crate::allegiance::Allegiance;

/// How long a peer that cannot be reached is left alone. Shorter than an election, so that a member that came back hears
/// from its leader before it calls for one.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(150);

/// A peer is worth a line when it has been silent for so long: longer than one that restarts, or a group that ends together.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(2);

/// A peer that has been silent for so long is dialled anew by each call, more than two appends that were lost: when it has been
/// restarted, it is to hear from its leader before it calls for an election.
const REDIAL_AFTER: Duration = Duration::from_millis(350);

/// Makes a client for each peer.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    me: u64,
    allegiance: Allegiance,
    fabric: Fabric,
    silences: BTreeMap<u64, Arc<Silence>>,
    /// As configured: where members were when they started.
    seeds: BTreeMap<u64, SocketAddr>,
}

/// Client of one peer.
#[derive(Debug)]
pub(crate) struct Peer {
    me: u64,
    pub(super) id: u64,
    /// The data directory that the group agreed on for it.
    pub(super) disk: DiskId,
    allegiance: Allegiance,
    fabric: Fabric,
    target: Target,
    /// Where the configuration says it is, if that is elsewhere: after a move, only one of the two is right.
    other: Option<Target>,
    silence: Arc<Silence>,
}

/// Since when a peer has not been reached; told once when that becomes long, and once when it is over. All clients of the
/// peer share it.
#[derive(Debug, Default)]
struct Silence(Mutex<Option<Silent>>);

#[derive(Debug, Clone, Copy)]
struct Silent {
    since: Instant,
    told: bool,
}

impl Network {
    pub(crate) fn new(me: u64, allegiance: Allegiance, fabric: Fabric, seeds: BTreeMap<u64, SocketAddr>) -> Self {
        Self { me, allegiance, fabric, silences: BTreeMap::new(), seeds }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &MemberNode) -> Peer {
        let name: Name = id.to_string().parse().expect("digits are a name");
        let target = |addr| Target { addr, role: Role::Metadata, name: Some(name.clone()) };
        let agreed = target(node.addr);
        let configured = self.seeds.get(&id).filter(|addr| **addr != node.addr).map(|addr| target(*addr));
        let silence = self.silences.entry(id).or_default().clone();
        Peer {
            me: self.me,
            id,
            disk: node.disk,
            allegiance: self.allegiance.clone(),
            fabric: self.fabric.clone(),
            target: agreed,
            other: configured,
            silence,
        }
    }
}

impl Peer {
    /// In whose name this member calls. Whoever does has a log, and so belongs to one.
    pub(super) fn group(&self) -> LineageId {
        self.allegiance.group().unwrap_or_default()
    }

    /// Calls the member where it answered last. One that does not answer there is tried at its other address next time:
    /// whichever is right, its certificate says that it is the member meant.
    pub(super) async fn call<M: Method>(
        &mut self,
        request: &M::Request,
        option: &RPCOption,
    ) -> Result<M::Response, CallError> {
        let answer = self.fabric.call::<M>(&self.target, request, option.hard_ttl()).await;
        let failure = answer.as_ref().err().filter(unanswered);
        if self.silence.heard(self.id, failure, Instant::now()) > REDIAL_AFTER {
            self.fabric.redial(&self.target);
        }
        if failure.is_some()
            && let Some(other) = &mut self.other
        {
            std::mem::swap(&mut self.target, other);
        }
        answer
    }

    async fn ask<M: Method, E: std::error::Error>(
        &mut self,
        request: &M::Request,
        kind: RPCTypes,
        option: &RPCOption,
    ) -> Result<M::Response, RPCError<u64, MemberNode, E>> {
        self.call::<M>(request, option).await.map_err(|error| match error {
            CallError::Connect { .. } => Unreachable::new(&error).into(),
            CallError::Deadline { after, .. } => {
                Timeout { action: kind, id: self.me, target: self.id, timeout: after }.into()
            }
            error => NetworkError::new(&error).into(),
        })
    }
}

/// Nothing came back; a refusal would be an answer.
fn unanswered(error: &&CallError) -> bool {
    matches!(error, CallError::Connect { .. } | CallError::Broken { .. } | CallError::Deadline { .. })
}

impl Silence {
    /// A call to the peer was answered, or why it was not. Returns how long it has been silent.
    fn heard(&self, peer: u64, failure: Option<&CallError>, now: Instant) -> Duration {
        let mut silent = self.0.lock();
        match failure {
            None => {
                if let Some(Silent { since, told: true }) = silent.take() {
                    info!(peer, after = ?(now - since), "a member of the group answers again");
                }
                Duration::ZERO
            }
            Some(error) => {
                let silent = silent.get_or_insert(Silent { since: now, told: false });
                if !silent.told && now - silent.since >= SILENCE_TOLD_AFTER {
                    silent.told = true;
                    warn!(peer, since = ?(now - silent.since), "a member of the group does not answer: {error}");
                }
                now - silent.since
            }
        }
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, MemberNode, RaftError<u64>>> {
        let message = AppendMessage { to: self.disk, group: self.group(), request };
        self.ask::<wire::AppendEntries, _>(&message, RPCTypes::AppendEntries, &option).await.map(Into::into)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, MemberNode, RaftError<u64>>> {
        let message = VoteMessage::new(self.disk, self.group(), &request);
        self.ask::<wire::Vote, _>(&message, RPCTypes::Vote, &option).await.map(Into::into)
    }

    async fn full_snapshot(
        &mut self,
        vote: super::Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        outgoing::send(self, vote, snapshot, cancel).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_when_it_is_long_and_not_at_all_when_it_is_short() {
        let (silence, start) = (Silence::default(), Instant::now());
        let error = CallError::Broken { addr: "127.0.0.1:7400".parse().unwrap(), reason: "reset".to_owned() };
        let told_after = |failure, millis| {
            silence.heard(2, failure, start + Duration::from_millis(millis));
            silence.0.lock().map(|silent| silent.told)
        };
        assert_eq!(told_after(Some(&error), 0), Some(false));
        assert_eq!(told_after(Some(&error), 1900), Some(false));
        assert_eq!(told_after(None, 1950), None, "it answered: the silence is over");
        assert_eq!(told_after(Some(&error), 2000), Some(false), "and the next begins anew");
        assert_eq!(told_after(Some(&error), 4000), Some(true));
        assert_eq!(told_after(None, 5000), None);
    }
}
