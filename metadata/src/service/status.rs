//! How a member and its group are: for `weft status`, the admin port's `/state`, and its `/ready`.

use std::collections::BTreeMap;

use openraft::ServerState;
use weft_metadata_proto::v1::{MemberState, MemberStatus, StatusResponse, TierStatus};
use weft_types::{MemberId, Tier};

use crate::group::Group;
use crate::log::LogStore;
use crate::raft::{MemberNode, RaftMetrics};

/// Entries that a member may have in its log and not applied, and still be ready: a second's worth of a busy group.
const READY_LAG_MAX: u64 = 1_000;

/// As this member sees it.
pub(crate) fn status(group: &Group, log: &LogStore) -> StatusResponse {
    let raft = group.metrics();
    let state = group.machine.state();
    let (roster, accounts) = (state.directory.roster(), state.directory.accounts());
    let mut tiers: BTreeMap<Tier, TierStatus> = BTreeMap::new();
    for grant in roster.holders.values() {
        let tier = tiers.entry(grant.key.tier()).or_default();
        tier.holders += 1;
        tier.blocks += state.directory.index().blocks_of(grant.holder);
    }
    let leader = group.leader();
    StatusResponse {
        member: MemberId::new(group.me),
        state: match (&raft.running_state, raft.state) {
            (Err(_), _) | (_, ServerState::Shutdown) => MemberState::Stopped,
            (_, ServerState::Leader) => MemberState::Leader,
            (_, ServerState::Follower) => MemberState::Follower,
            (_, ServerState::Candidate) => MemberState::Candidate,
            (_, ServerState::Learner) => MemberState::Learner,
        },
        leader: leader.map(MemberId::new),
        leader_addr: group.leader_addr(),
        term: raft.current_term,
        last_log: raft.last_log_index.unwrap_or(0),
        // Openraft keeps the committed index to itself; it applies at once what it learns to be committed.
        committed: raft.last_applied.map_or(0, |id| id.index).max(state.index()),
        applied: state.index(),
        snapshot: raft.snapshot.map(|id| id.index),
        log_bytes: log.disk_bytes(),
        log_time: state.directory.log_time(),
        members: members(&raft),
        blocks: state.directory.index().len() as u64,
        refused_blocks: state.directory.refused_blocks(),
        tiers,
        nodes: u32::try_from(roster.nodes.len()).unwrap_or(u32::MAX),
        endpoints: u32::try_from(roster.endpoints.len()).unwrap_or(u32::MAX),
        by_holder: roster.holders.keys().map(|holder| (*holder, state.directory.index().blocks_of(*holder))).collect(),
        tenants: u32::try_from(accounts.tenants().all().len()).unwrap_or(u32::MAX),
        leases: u32::try_from(accounts.leases().all().len()).unwrap_or(u32::MAX),
        leased_blocks: accounts.leases().blocks(),
    }
}

/// The group, as agreed.
pub(crate) fn members(raft: &RaftMetrics) -> Vec<MemberStatus> {
    let membership = raft.membership_config.membership();
    let member = |(id, node): (&u64, &MemberNode)| MemberStatus {
        id: MemberId::new(*id),
        addr: node.addr,
        voter: membership.voter_ids().any(|voter| voter == *id),
    };
    membership.nodes().map(member).collect()
}

/// Whether this member would serve now, and if not, why not.
pub(crate) fn ready(group: &Group) -> Result<(), String> {
    let raft = group.metrics();
    if let Err(fatal) = raft.running_state {
        return Err(format!(
            "this member has stopped taking part: {fatal}; restart it, and look at its log for the cause"
        ));
    }
    if let Some(reason) = group.waiting.reason() {
        return Err(reason);
    }
    if group.leader().is_none() {
        return Err(format!("no leader is known in term {}; is a majority of the members up?", raft.current_term));
    }
    let applied = raft.last_applied.map_or(0, |id| id.index);
    let lag = raft.last_log_index.unwrap_or(0).saturating_sub(applied);
    if lag > READY_LAG_MAX {
        return Err(format!("{lag} entries of the log are not applied yet"));
    }
    Ok(())
}
