//! Handing leadership over: the leader takes no more commands, sees its successor through to the end of the log, and has it
//! elected at once. Commands that come meanwhile wait, and go to the new leader.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use weft_transport::{Fabric, Target};
use weft_types::{Name, Role};

use crate::group::Group;
use crate::raft::handover::{HandoverMessage, StepAside, TakeOver, step_aside};
use crate::raft::{MemberNode, RaftMetrics};

/// How long the successor has to get to the end of the log, and then to lead. Longer means that it is not up to it: it
/// would cost more than the election that it is to save.
const WITHIN: Duration = Duration::from_secs(2);

/// How long a member has for its answer: a few syncs of a busy disk.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Why leadership was not handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("this member does not lead")]
    NotLeader,
    #[error("member {0} is no voter of the group: add it, or name another")]
    NoVoter(u64),
    #[error("no other member could lead: it would have to vote and to answer")]
    Nobody,
    #[error("member {successor} did not get to the end of the log within {WITHIN:?}, and was not made to lead")]
    Behind { successor: u64 },
    #[error(
        "member {successor} does not lead: it could not be told, or did not within {WITHIN:?}; an election finds the next leader"
    )]
    NotTaken { successor: u64 },
    #[error("{0}")]
    Stopped(String),
}

/// Hands leadership to `to`, or to the voter that has most of the log. Returns who leads.
pub(crate) async fn hand_over(group: &Group, fabric: &Fabric, to: Option<u64>) -> Result<u64, HandoverError> {
    if group.leadership().is_none() {
        return Err(HandoverError::NotLeader);
    }
    if to == Some(group.me) {
        return Ok(group.me);
    }
    let began = Instant::now();
    // From here on commands wait.
    let closed = group.gate.write().await;
    let successor = choose(&group.metrics(), group.me, to)?;
    caught_up(group, successor).await?;

    let metrics = group.metrics();
    let membership = metrics.membership_config.membership();
    let vote = metrics.vote;
    let voters: Vec<u64> = membership.voter_ids().collect();
    let node = |id: u64| membership.get_node(&id).copied().ok_or(HandoverError::NoVoter(id));
    let message = |node: MemberNode| HandoverMessage { to: node.disk, vote: vote.into(), successor };
    let mut asides = tokio::task::JoinSet::new();
    for id in voters.into_iter().filter(|id| ![group.me, successor].contains(id)) {
        let (fabric, node) = (fabric.clone(), node(id)?);
        let message = message(node);
        asides.spawn(async move { fabric.call::<StepAside>(&target(id, node), &message, ANSWER_WITHIN).await });
    }
    while let Some(aside) = asides.join_next().await {
        if let Ok(Err(error)) = aside {
            // It is going away too, or cut off. Its vote may not be needed; if it is, an election finds the next leader.
            info!("a member does not make way for the next leader: {error}");
        }
    }
    step_aside(&group.raft, vote, successor).await.map_err(HandoverError::Stopped)?;
    let next = node(successor)?;
    if let Err(error) = fabric.call::<TakeOver>(&target(successor, next), &message(next), ANSWER_WITHIN).await {
        info!(successor, "the next leader was not told: {error}");
        return Err(HandoverError::NotTaken { successor });
    }
    let mut metrics = group.raft.metrics();
    let leads = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|leader| leader != group.me));
    let leader = match tokio::time::timeout(WITHIN, leads).await {
        Ok(Ok(metrics)) => metrics.current_leader,
        _ => None,
    };
    drop(closed);
    let leader = leader.ok_or(HandoverError::NotTaken { successor })?;
    info!(leader, took = ?began.elapsed(), "leadership handed over");
    Ok(leader)
}

fn target(id: u64, node: MemberNode) -> Target {
    let name: Name = id.to_string().parse().expect("digits are a name");
    Target { addr: node.addr, role: Role::Metadata, name: Some(name) }
}

/// The one named, or the voter with most of the log; of two with the same, the lower id.
fn choose(metrics: &RaftMetrics, me: u64, to: Option<u64>) -> Result<u64, HandoverError> {
    let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().filter(|voter| *voter != me).collect();
    match to {
        Some(to) if voters.contains(&to) => Ok(to),
        Some(to) => Err(HandoverError::NoVoter(to)),
        None => {
            let progress = metrics.replication.as_ref().ok_or(HandoverError::NotLeader)?;
            let matched = |voter: &u64| progress.get(voter).copied().flatten().map(|id| id.index);
            voters
                .into_iter()
                .rev()
                .filter(|voter| matched(voter).is_some())
                .max_by_key(matched)
                .ok_or(HandoverError::Nobody)
        }
    }
}

/// Waits until the successor has everything.
async fn caught_up(group: &Group, successor: u64) -> Result<(), HandoverError> {
    let mut metrics = group.raft.metrics();
    let there = metrics.wait_for(|metrics| {
        let matched = metrics.replication.as_ref().and_then(|progress| progress.get(&successor).copied().flatten());
        matched.map(|id| id.index) == metrics.last_log_index
    });
    match tokio::time::timeout(WITHIN, there).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(HandoverError::Stopped("Raft has stopped".to_owned())),
        Err(_) => Err(HandoverError::Behind { successor }),
    }
}
