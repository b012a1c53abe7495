//! The other side of Raft's procedures: requests of peers, handed to openraft if the peer is who it claims to be.

use openraft::Raft;
use openraft::error::{InstallSnapshotError, RaftError};
use weft_transport::{Peer, Refusal, RefusalCode, Routes};
use weft_types::Role;

use super::wire::{AppendEntries, InstallSnapshot, SnapshotReply, Vote};
use super::{Types, Vote as RaftVote};
use crate::machine::snapshot;

const MEMBERS: &[Role] = &[Role::Metadata];

/// Adds methods 1 to 3.
pub(crate) fn routes(routes: Routes, raft: &Raft<Types>) -> Routes {
    let (append, vote, install) = (raft.clone(), raft.clone(), raft.clone());
    routes
        .rpc::<AppendEntries, _, _>(MEMBERS, move |peer, request| {
            let raft = append.clone();
            async move {
                check_sender(&peer, &request.0.vote)?;
                raft.append_entries(request.0).await.map(Into::into).map_err(failed)
            }
        })
        .rpc::<Vote, _, _>(MEMBERS, move |peer, request| {
            let raft = vote.clone();
            async move {
                check_sender(&peer, &request.vote.into())?;
                raft.vote(request.into()).await.map(Into::into).map_err(failed)
            }
        })
        .rpc::<InstallSnapshot, _, _>(MEMBERS, move |peer, request| {
            let raft = install.clone();
            async move {
                check_sender(&peer, &request.0.vote)?;
                let end = request.0.offset.saturating_add(request.0.data.len() as u64);
                if end > snapshot::BYTES_MAX {
                    let message = format!("a snapshot of {end} bytes: at most {} expected", snapshot::BYTES_MAX);
                    return Err(Refusal::new(RefusalCode::BadRequest, message));
                }
                match raft.install_snapshot(request.0).await {
                    Ok(response) => Ok(response.into()),
                    Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                        Ok(SnapshotReply::Mismatch { expected: mismatch.expect.into(), got: mismatch.got.into() })
                    }
                    Err(error) => Err(failed(error)),
                }
            }
        })
}

/// Requests carry the vote of whom they are from: a leader's or a candidate's own.
fn check_sender(peer: &Peer, vote: &RaftVote) -> Result<(), Refusal> {
    let claimed = vote.leader_id.node_id.to_string();
    if peer.name.as_str() == claimed {
        return Ok(());
    }
    let message = format!("a request in the name of member {claimed}, from one whose certificate says {}", peer.name);
    Err(Refusal::new(RefusalCode::Forbidden, message))
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, error.to_string())
}
