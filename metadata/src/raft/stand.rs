//! Standing for election as soon as somebody with less of the log does.
//!
//! Under load the followers of a leader that dies rarely have the same log. When the one with less calls its election first,
//! openraft refuses it and waits for the other's own time-out; by then the first one's vote is in a higher term, or in the same
//! and with the higher id, so that the other is refused too and a second round is needed: 2 to 4 seconds without a leader. So a
//! member that refuses a candidate for its log alone stands at once, one term above it.
//!
//! Whoever leads, or still hears the leader, does nothing: a member that was cut off, or restarted and not heard from yet, must
//! not depose a leader that lives.

use std::time::Duration;

use openraft::raft::{VoteRequest, VoteResponse};
use openraft::{Raft, ServerState};
use tracing::{info, warn};

use super::handover::move_on;
use super::{Types, Vote};

/// Stands for election if `answer` refused `request` for want of log, and the leader's word holds no longer.
pub(super) async fn stand_instead(
    raft: &Raft<Types>,
    request: VoteRequest<u64>,
    answer: &VoteResponse<u64>,
    leader_lease: Duration,
) {
    if !has_less(&request, answer) {
        return;
    }
    // openraft does not renew a leader's own lease.
    if raft.metrics().borrow().state == ServerState::Leader {
        return;
    }
    let silence = raft.with_raft_state(|state| state.vote_last_modified().map(|heard| heard.elapsed())).await;
    if matches!(silence, Ok(Some(silence)) if answer.vote.committed && silence <= leader_lease) {
        return;
    }
    // Its term is passed over: in it, the higher id would win whatever the logs.
    let standing = async {
        move_on(raft, Vote::new(request.vote.leader_id.term, request.vote.leader_id.node_id)).await?;
        raft.trigger().elect().await.map_err(|error| error.to_string())
    };
    match standing.await {
        Ok(()) => {
            info!(candidate = request.vote.leader_id.node_id, "a candidate has less of the log: this member stands")
        }
        Err(error) => warn!(%error, "this member cannot stand for election"),
    }
}

/// The candidate asked in a higher term than is known here, and was refused all the same: it has less of the log.
fn has_less(request: &VoteRequest<u64>, answer: &VoteResponse<u64>) -> bool {
    !answer.vote_granted && request.vote > answer.vote && answer.last_log_id > request.last_log_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log_id;

    #[test]
    fn only_a_candidate_in_a_higher_term_with_less_of_the_log_makes_a_member_stand() {
        let request = |term, index| VoteRequest::new(Vote::new(term, 2), Some(log_id(1, 1, index)));
        let refused = |term, index| VoteResponse::new(Vote::new_committed(term, 1), Some(log_id(1, 1, index)), false);
        assert!(has_less(&request(2, 5), &refused(1, 6)));
        assert!(!has_less(&request(2, 6), &refused(1, 6)), "it has as much: refused by the lease");
        assert!(!has_less(&request(1, 5), &refused(2, 6)), "its term is over");
        let granted = VoteResponse::new(Vote::new(2, 2), Some(log_id(1, 1, 5)), true);
        assert!(!has_less(&request(2, 5), &granted));
    }
}
