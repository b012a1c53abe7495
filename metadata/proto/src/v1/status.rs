//! What an operator is told about a member, its group and the directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_types::{HolderId, LogTime, MemberId, ShardId, Tier, control_message};

/// Request of [`super::method::Status`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusRequest {
    /// Which group.
    pub shard: ShardId,
}

/// What a member is doing in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MemberState {
    /// It leads.
    Leader,
    /// It follows a leader.
    Follower,
    /// It asks to be elected.
    Candidate,
    /// It receives the log without a vote.
    Learner,
    /// It is stopping, or stopped by a fault.
    Stopped,
}

/// One member of the group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    pub id: MemberId,
    /// Fabric address.
    pub addr: SocketAddr,
    /// It votes; `false`: a learner.
    pub voter: bool,
}

/// Holders of one tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TierStatus {
    /// How many.
    pub holders: u32,
    /// Blocks they hold; a block counts once for each of them.
    pub blocks: u64,
}

/// Answer to a status request, as this member sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusResponse {
    /// Who answers.
    pub member: MemberId,
    /// What it is doing.
    pub state: MemberState,
    /// Who leads, if it knows.
    pub leader: Option<MemberId>,
    /// Fabric address of the leader.
    pub leader_addr: Option<SocketAddr>,
    /// Raft term.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index up to which it knows entries to be committed.
    pub committed: u64,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index of the last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// Log-stamped time of the last entry applied.
    pub log_time: LogTime,
    /// The group, by id.
    pub members: Vec<MemberStatus>,
    /// Distinct blocks.
    pub blocks: u64,
    /// Blocks not taken because the directory was full.
    pub refused_blocks: u64,
    /// Holders and what they hold, by tier.
    pub tiers: BTreeMap<Tier, TierStatus>,
    /// Node daemons in the roster.
    pub nodes: u32,
    /// Engine replicas in the roster.
    pub endpoints: u32,
    /// Blocks of each holder.
    pub by_holder: BTreeMap<HolderId, u64>,
    /// Tenants.
    pub tenants: u32,
    /// Leases that have not ended.
    pub leases: u32,
    /// Blocks of all leases, each counted once a lease.
    pub leased_blocks: u64,
}

control_message!(StatusRequest, StatusResponse);
