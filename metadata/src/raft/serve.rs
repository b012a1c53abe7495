//! The other side of Raft's procedures: requests of peers, handed to openraft if the peer is who it claims to be.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use openraft::{Raft, Snapshot};
use weft_transport::{Peer, Refusal, RefusalCode, Routes};
use weft_types::Role;

use super::stand::stand_instead;
use super::wire::{AppendEntries, InstallSnapshot, SnapshotReply, Vote};
use super::{Types, Vote as RaftVote};
use crate::allegiance::Allegiance;
use crate::machine::incoming::{Incoming, Piece, Taken};

const MEMBERS: &[Role] = &[Role::Metadata];

/// Adds methods 1 to 3, for a member of this allegiance. A leader's word holds for `leader_lease`.
pub(crate) fn routes(
    routes: Routes,
    raft: &Raft<Types>,
    allegiance: &Allegiance,
    incoming: Incoming,
    leader_lease: Duration,
) -> Routes {
    let (append, vote, install) = (raft.clone(), raft.clone(), raft.clone());
    let incoming = Arc::new(incoming);
    let [appended, voted, installed] = std::array::from_fn(|_| allegiance.clone());
    routes
        .rpc::<AppendEntries, _, _>(MEMBERS, move |peer, message| {
            let (raft, allegiance) = (append.clone(), appended.clone());
            async move {
                check_sender(&peer, &message.request.vote)?;
                allegiance.check(message.to, message.group).await?;
                raft.append_entries(message.request).await.map(Into::into).map_err(failed)
            }
        })
        .rpc::<Vote, _, _>(MEMBERS, move |peer, request| {
            let (raft, allegiance) = (vote.clone(), voted.clone());
            async move {
                check_sender(&peer, &request.vote.into())?;
                allegiance.check(request.to, request.group).await?;
                let request = VoteRequest::from(request);
                let answer = raft.vote(request.clone()).await.map_err(failed)?;
                // The candidate gives up the call when it hears of a higher vote, which must not stop this.
                let (standing, refused) = (raft.clone(), answer.clone());
                tokio::spawn(async move { stand_instead(&standing, request, &refused, leader_lease).await });
                Ok(answer.into())
            }
        })
        .rpc::<InstallSnapshot, _, _>(MEMBERS, move |peer, message| {
            let (raft, incoming, allegiance) = (install.clone(), incoming.clone(), installed.clone());
            async move {
                check_sender(&peer, &message.vote)?;
                allegiance.check(message.to, message.group).await?;
                let mine = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(failed)?;
                if message.vote < mine {
                    return Ok(SnapshotReply::Done(mine.into()));
                }
                let vote = message.vote;
                let piece =
                    Piece { meta: message.meta, bytes: message.bytes, offset: message.offset, data: message.data };
                match incoming.take(piece).await.map_err(failed)? {
                    Taken::Next(offset) => Ok(SnapshotReply::Next(offset)),
                    Taken::Whole(meta, file) => {
                        let snapshot = Snapshot { meta, snapshot: file };
                        let response = raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
                        Ok(SnapshotReply::Done(response.vote.into()))
                    }
                }
            }
        })
}

/// Requests carry the vote of whom they are from: a leader's or a candidate's own.
pub(super) fn check_sender(peer: &Peer, vote: &RaftVote) -> Result<(), Refusal> {
    let claimed = vote.leader_id.node_id.to_string();
    if peer.name.as_str() == claimed {
        return Ok(());
    }
    let message = format!("a request in the name of member {claimed}, from one whose certificate says {}", peer.name);
    Err(Refusal::new(RefusalCode::Forbidden, message))
}

pub(super) fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, error.to_string())
}
