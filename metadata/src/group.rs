//! This member's seat in the Raft group: who leads, and how a command gets into the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, Fatal};
use openraft::raft::ClientWriteResult;
use openraft::{Raft, ServerState};
use parking_lot::Mutex;
use tokio::sync::{RwLock, oneshot};
use tokio::time::Instant;
use weft_metadata_state::{Command, Outcome};
use weft_types::LogTime;

use crate::forming::Waiting;
use crate::machine::Machine;
use crate::raft::{CommandBytes, RaftMetrics, Types};

/// Longest that a proposer waits for its command. A leader that lost its majority never commits; by then every client has
/// given up and asks another member.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// A member's seat; clone is cheap.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) me: u64,
    pub(crate) raft: Raft<Types>,
    pub(crate) machine: Machine,
    /// Why this member takes no part yet, while it does not.
    pub(crate) waiting: Waiting,
    /// A leader that heard from no majority for so long may have been replaced.
    quorum_silence_max: Duration,
    clock: Arc<Mutex<Clock>>,
    /// Held by each command while it enters the log, and closed while leadership is handed over.
    pub(crate) gate: Arc<RwLock<()>>,
}

/// Why a command was not applied, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// It was not: another member leads, or none does.
    #[error("this member does not lead")]
    NotLeader { leader: Option<SocketAddr> },
    /// Unknown.
    #[error("not committed within {COMMIT_WAIT_MAX:?}: the group has no majority; whether it will be is unknown")]
    NoMajority,
    /// Unknown; this member's log or state failed.
    #[error("this member has stopped taking part: {0}")]
    Stopped(String),
}

/// A command on its way; its place in the log is settled.
#[derive(Debug)]
pub(crate) struct Proposed {
    told: oneshot::Receiver<ClientWriteResult<Types>>,
}

/// The leader's clock: the last applied stamp plus monotonic time since. It stands still while this member follows.
#[derive(Debug)]
struct Clock {
    term: u64,
    anchor: LogTime,
    since: Instant,
}

impl Group {
    pub(crate) fn new(
        me: u64,
        raft: Raft<Types>,
        machine: Machine,
        waiting: Waiting,
        quorum_silence_max: Duration,
    ) -> Self {
        let clock = Clock { term: 0, anchor: LogTime::ZERO, since: Instant::now() };
        let clock = Arc::new(Mutex::new(clock));
        Self { me, raft, machine, waiting, quorum_silence_max, clock, gate: Arc::default() }
    }

    /// What openraft says of itself.
    pub(crate) fn metrics(&self) -> RaftMetrics {
        self.raft.metrics().borrow().clone()
    }

    /// The term in which this member leads with a majority behind it; `None` while it does not.
    pub(crate) fn leadership(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let silence = Duration::from_millis(metrics.millis_since_quorum_ack?);
        (metrics.state == ServerState::Leader && silence <= self.quorum_silence_max).then_some(metrics.current_term)
    }

    /// Who leads, as far as this member knows: `None` during an election, or when it leads and lost its majority.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leader = self.raft.metrics().borrow().current_leader?;
        (leader != self.me || self.leadership().is_some()).then_some(leader)
    }

    /// Where it is.
    pub(crate) fn leader_addr(&self) -> Option<SocketAddr> {
        self.leader().and_then(|leader| self.addr(leader))
    }

    /// Where a member is, as agreed.
    pub(crate) fn addr(&self, member: u64) -> Option<SocketAddr> {
        self.raft.metrics().borrow().membership_config.membership().get_node(&member).map(|node| node.addr)
    }

    /// Stamps and proposes a command, and waits until it is applied here.
    pub(crate) async fn propose(&self, command: impl FnOnce(LogTime) -> Command) -> Result<Outcome, ProposeError> {
        self.submit(command).await?.outcome().await
    }

    /// Stamps a command and puts it into the log. Commands submitted one after another are applied in that order.
    pub(crate) async fn submit(&self, command: impl FnOnce(LogTime) -> Command) -> Result<Proposed, ProposeError> {
        let _open = self.gate.read().await;
        let at = self.stamp();
        let bytes = CommandBytes(command(at).encode().into());
        let told = self.raft.client_write_ff(bytes).await.map_err(stopped)?;
        Ok(Proposed { told })
    }

    /// What a command would be stamped with now. Means something while this member leads.
    pub(crate) fn log_time(&self) -> LogTime {
        self.stamp()
    }

    fn stamp(&self) -> LogTime {
        let term = self.raft.metrics().borrow().current_term;
        let applied = self.machine.glance().log_time;
        self.clock.lock().stamp(term, applied, Instant::now())
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Proposed {
    /// What applying it gave.
    pub(crate) async fn outcome(self) -> Result<Outcome, ProposeError> {
        let Ok(told) = tokio::time::timeout(COMMIT_WAIT_MAX, self.told).await else {
            return Err(ProposeError::NoMajority);
        };
        match told {
            Ok(Ok(written)) => Ok(written.data.0.expect("a command gives an outcome")),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_node.map(|node| node.addr) })
            }
            Ok(Err(error @ ClientWriteError::ChangeMembershipError(_))) => {
                Err(ProposeError::Stopped(error.to_string()))
            }
            Err(_) => Err(ProposeError::Stopped("it dropped the command".to_owned())),
        }
    }
}

impl Clock {
    fn stamp(&mut self, term: u64, applied: LogTime, now: Instant) -> LogTime {
        if self.term != term {
            *self = Self { term, anchor: applied, since: now };
        }
        self.anchor.after(now - self.since).max(applied)
    }
}

fn stopped(fatal: Fatal<u64>) -> ProposeError {
    ProposeError::Stopped(fatal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_on_from_what_was_applied_and_stands_while_others_lead() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let time = |seconds: u64| LogTime::from_micros(seconds * 1_000_000);
        let mut clock = Clock { term: 0, anchor: LogTime::ZERO, since: start };
        assert_eq!(clock.stamp(1, time(100), after(50)), time(100), "a new leader begins at what it applied");
        assert_eq!(clock.stamp(1, time(100), after(53)), time(103));
        assert_eq!(clock.stamp(1, time(104), after(53)), time(104), "never before what was applied");
        assert_eq!(clock.stamp(2, time(105), after(99)), time(105), "another term: the time between is not counted");
    }
}
