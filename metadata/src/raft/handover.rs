//! Leadership handed over, which openraft 0.9 does not do by itself: methods 5 and 6, and what they do to Raft.
//!
//! ```text
//!  leader of term T ── StepAside(T, successor) ──► the other voters: their vote becomes (T+1, successor), not yet granted to a
//!       │                                          leader, so that the lease which protects a leader is off
//!       ├── the same, to itself: it leads no more
//!       └── TakeOver(T) ──► successor: calls an election of term T+1, which finds its own vote there
//! ```
//! Each step is one that Raft allows at any time: a member may always move on to a higher vote, and a voter may always call
//! an election. So whatever is lost on the way costs an ordinary election, and nothing else.

use openraft::{Raft, Snapshot, SnapshotMeta};
use serde::{Deserialize, Serialize};
use weft_transport::{Peer, Refusal, RefusalCode, Routes};
use weft_types::rpc::Method;
use weft_types::{Role, control_message};

use super::mirror::VoteMirror;
use super::serve::{check_sender, failed};
use super::{DiskId, Types, Vote};
use crate::allegiance::Allegiance;
use crate::machine::snapshot::SnapshotFile;

/// To a voter: make way for the successor.
#[derive(Debug)]
pub(crate) enum StepAside {}
/// To the successor: call an election.
#[derive(Debug)]
pub(crate) enum TakeOver {}

/// From the leader, in whose name is the vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HandoverMessage {
    pub(crate) to: DiskId,
    pub(crate) vote: VoteMirror,
    pub(crate) successor: u64,
}

/// Done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandoverReply;

control_message!(HandoverMessage, HandoverReply);

impl Method for StepAside {
    const ID: u16 = 5;
    const NAME: &'static str = "raft_step_aside";
    type Request = HandoverMessage;
    type Response = HandoverReply;
}

impl Method for TakeOver {
    const ID: u16 = 6;
    const NAME: &'static str = "raft_take_over";
    type Request = HandoverMessage;
    type Response = HandoverReply;
}

/// Adds methods 5 and 6.
pub(crate) fn routes(routes: Routes, raft: &Raft<Types>, allegiance: &Allegiance) -> Routes {
    let (aside, over) = (raft.clone(), raft.clone());
    let [to_go, to_come] = std::array::from_fn(|_| allegiance.clone());
    routes
        .rpc::<StepAside, _, _>(&[Role::Metadata], move |peer, message| {
            let (raft, allegiance) = (aside.clone(), to_go.clone());
            async move {
                let vote = check(&raft, &peer, message, &allegiance).await?;
                step_aside(&raft, vote, message.successor).await.map_err(failed)?;
                Ok(HandoverReply)
            }
        })
        .rpc::<TakeOver, _, _>(&[Role::Metadata], move |peer, message| {
            let (raft, allegiance) = (over.clone(), to_come.clone());
            async move {
                check(&raft, &peer, message, &allegiance).await?;
                raft.trigger().elect().await.map_err(failed)?;
                Ok(HandoverReply)
            }
        })
}

/// Moves a member on to the vote that the successor will ask for.
pub(crate) async fn step_aside(raft: &Raft<Types>, vote: Vote, successor: u64) -> Result<(), String> {
    move_on(raft, Vote::new(vote.leader_id.term + 1, successor)).await
}

/// Moves a member on to a higher vote, which it tells nobody. openraft takes one from every request of a leader; the one that
/// does nothing else is to install a snapshot that covers nothing.
pub(super) async fn move_on(raft: &Raft<Types>, vote: Vote) -> Result<(), String> {
    let nothing = Snapshot { meta: SnapshotMeta::default(), snapshot: Box::new(SnapshotFile::none()) };
    raft.install_full_snapshot(vote, nothing).await.map(drop).map_err(|error| error.to_string())
}

/// Only the leader that this member follows now may ask.
async fn check(
    raft: &Raft<Types>,
    peer: &Peer,
    message: HandoverMessage,
    allegiance: &Allegiance,
) -> Result<Vote, Refusal> {
    let vote: Vote = message.vote.into();
    check_sender(peer, &vote)?;
    allegiance.check_disk(message.to)?;
    let mine = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(failed)?;
    if vote.committed && vote == mine {
        return Ok(vote);
    }
    Err(Refusal::new(RefusalCode::Failed, format!("handed over by the leader of {vote}, but {mine} holds here")))
}
