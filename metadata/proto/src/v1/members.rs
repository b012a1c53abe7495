//! Changing the group itself: members come and go by command, and leadership is handed over.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_types::{MemberId, ShardId, control_message};

use super::MemberStatus;

/// Request of [`super::method::ChangeMembers`]: one member comes, one goes, or one takes the place of another. Sent again
/// until it is done; what is done already is not done twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeMembersRequest {
    /// Which group.
    pub shard: ShardId,
    /// Comes: it runs, with an empty data directory or one of this group; or is a member already and has moved.
    pub add: Option<NewMember>,
    /// Goes.
    pub remove: Option<MemberId>,
    /// Even if those who stay and answer are no majority of those who stay.
    pub force: bool,
}

/// A member to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewMember {
    /// Who.
    pub id: MemberId,
    /// Its fabric address.
    pub addr: SocketAddr,
    /// It votes once it has caught up; `false`: it only follows.
    pub voter: bool,
}

/// How far a change has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MembersChange {
    /// The new member takes over what it lacks, and gets no vote before it has. Ask again.
    CatchingUp {
        /// Entries of the log that it lacks; with a snapshot on its way, those behind it.
        behind: u64,
    },
    /// Committed.
    Done {
        /// The group as it is now.
        members: Vec<MemberStatus>,
    },
    /// The member to be added does not answer at its address. Start it, and ask again.
    Silent {
        /// Who.
        id: MemberId,
    },
}

/// Request of [`super::method::TransferLeader`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransferLeaderRequest {
    /// Which group.
    pub shard: ShardId,
    /// To whom; `None`: to whoever has most of the log.
    pub to: Option<MemberId>,
}

control_message!(ChangeMembersRequest, TransferLeaderRequest);
