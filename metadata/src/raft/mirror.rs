//! openraft's small values as weft writes them, to disk and to the wire. Mirrored rather than derived, so that another
//! version of openraft changes neither format.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{DiskId, LogId, MemberNode, Membership, StoredMembership, Vote, log_id};

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
    members: BTreeMap<u64, MemberMirror>,
}

/// A [`MemberNode`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct MemberMirror {
    addr: SocketAddr,
    disk: u64,
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

impl From<&Membership> for MembershipMirror {
    fn from(membership: &Membership) -> Self {
        let mirror = |node: &MemberNode| MemberMirror { addr: node.addr, disk: node.disk.0 };
        let members = membership.nodes().map(|(member, node)| (*member, mirror(node))).collect();
        Self { voters: membership.get_joint_config().clone(), members }
    }
}

impl From<MembershipMirror> for Membership {
    fn from(membership: MembershipMirror) -> Self {
        let node = |mirror: MemberMirror| MemberNode { addr: mirror.addr, disk: DiskId(mirror.disk) };
        let nodes: BTreeMap<u64, MemberNode> =
            membership.members.into_iter().map(|(member, mirror)| (member, node(mirror))).collect();
        Self::new(membership.voters, nodes)
    }
}

impl From<&StoredMembership> for StoredMembershipMirror {
    fn from(stored: &StoredMembership) -> Self {
        Self { at: stored.log_id().map(Into::into), membership: stored.membership().into() }
    }
}

impl From<StoredMembershipMirror> for StoredMembership {
    fn from(stored: StoredMembershipMirror) -> Self {
        Self::new(stored.at.map(Into::into), stored.membership.into())
    }
}
