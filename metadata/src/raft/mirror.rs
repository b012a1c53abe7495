//! openraft's small values as weft writes them, to disk and to the wire. Mirrored rather than derived, so that another
//! version of openraft changes neither format.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, Membership, StoredMembership};
use serde::{Deserialize, Serialize};

use super::{LogId, Vote, log_id};

/// A [`LogId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogIdMirror {
    term: u64,
    leader: u64,
    index: u64,
}

/// A [`Vote`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct VoteMirror {
    term: u64,
    member: u64,
    committed: bool,
}

/// A [`Membership`]: one set of voters, or two while it changes, and where every member is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MembershipMirror {
    voters: Vec<BTreeSet<u64>>,
    addresses: BTreeMap<u64, String>,
}

/// A [`StoredMembership`]: with the entry that brought it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredMembershipMirror {
    at: Option<LogIdMirror>,
    membership: MembershipMirror,
}

impl From<LogId> for LogIdMirror {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdMirror> for LogId {
    fn from(id: LogIdMirror) -> Self {
        log_id(id.term, id.leader, id.index)
    }
}

impl From<Vote> for VoteMirror {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, member: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteMirror> for Vote {
    fn from(vote: VoteMirror) -> Self {
        if vote.committed { Self::new_committed(vote.term, vote.member) } else { Self::new(vote.term, vote.member) }
    }
}

impl From<&Membership<u64, BasicNode>> for MembershipMirror {
    fn from(membership: &Membership<u64, BasicNode>) -> Self {
        let addresses = membership.nodes().map(|(member, node)| (*member, node.addr.clone())).collect();
        Self { voters: membership.get_joint_config().clone(), addresses }
    }
}

impl From<MembershipMirror> for Membership<u64, BasicNode> {
    fn from(membership: MembershipMirror) -> Self {
        let nodes: BTreeMap<u64, BasicNode> =
            membership.addresses.into_iter().map(|(member, addr)| (member, BasicNode { addr })).collect();
        Self::new(membership.voters, nodes)
    }
}

impl From<&StoredMembership<u64, BasicNode>> for StoredMembershipMirror {
    fn from(stored: &StoredMembership<u64, BasicNode>) -> Self {
        Self { at: stored.log_id().map(Into::into), membership: stored.membership().into() }
    }
}

impl From<StoredMembershipMirror> for StoredMembership<u64, BasicNode> {
    fn from(stored: StoredMembershipMirror) -> Self {
        Self::new(stored.at.map(Into::into), stored.membership.into())
    }
}
