//! What a member does by itself: the leader expires nodes, ends leases, sweeps, agrees on limits, and ends a change of the group
//! that its predecessor left half made; every member starts a snapshot
//! when enough bytes were applied since the last, and lets go of the log before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weft_metadata_state::{Command, Limits, Outcome};

use super::liveness::Liveness;
use crate::group::{Group, ProposeError};
use crate::log::LogStore;
use crate::members::Members;
use crate::metrics::Metrics;

/// How often there is a look: a twentieth of the default lease, which is how late an expiry can be.
const EVERY: Duration = Duration::from_millis(100);

/// Looks this far apart mean that the process was not running (a suspended host, a starved one): then nodes could not be
/// heard either. Below it, late looks are the chores' own waiting.
const LATE: Duration = Duration::from_millis(500);

/// Keys looked at in one sweep command: a few milliseconds of apply.
const SWEEP_BUDGET: u32 = 65_536;

/// The chores of one member.
#[derive(Debug)]
pub(crate) struct Chores {
    pub(crate) group: Group,
    pub(crate) log: LogStore,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) members: Members,
    /// Limits to agree on.
    pub(crate) limits: Limits,
    /// Bytes applied that call for a snapshot.
    pub(crate) snapshot_bytes: u64,
    /// Bytes of the log that are kept behind a snapshot.
    pub(crate) keep_bytes: u64,
    pub(crate) metrics: Metrics,
}

impl Chores {
    /// Runs until `closing`.
    pub(crate) async fn run(self, closing: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut led, mut looked) = (None, Instant::now());
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            let late = looked.elapsed().saturating_sub(LATE);
            if !late.is_zero() {
                self.liveness.forgive(late);
            }
            looked = Instant::now();
            self.log.settle().await;
            self.snapshot().await;
            self.purge().await;
            let leads = self.group.leadership();
            if leads != led {
                match leads {
                    Some(term) => info!(term, "this member leads the metadata group"),
                    None => info!("this member no longer leads the metadata group"),
                }
                led = leads;
            }
            self.metrics.observe(&self.group.metrics(), leads.is_some());
            self.metrics.observe_directory(&self.group.machine.state().directory);
            let Some(leadership) = leads else { continue };
            let done = tokio::select! {
                biased;
                done = self.lead(leadership) => done,
                () = closing.cancelled() => return,
            };
            if let Err(error) = done {
                debug!(%error, "a chore was not done; it will be tried again");
            }
        }
    }

    async fn lead(&self, leadership: u64) -> Result<(), ProposeError> {
        self.members.finish_what_was_left().await;
        self.expire(leadership).await?;
        self.end_leases().await?;
        self.sweep().await?;
        self.agree_on_limits().await
    }

    async fn expire(&self, leadership: u64) -> Result<(), ProposeError> {
        let roster = self.group.machine.glance().roster.clone();
        let expired = self.liveness.expired(leadership, roster.nodes.values(), Instant::now());
        for (node, incarnation) in expired {
            warn!(%node, %incarnation, lease = ?self.liveness.term(), "node did not keep alive; its holders are retired");
            self.metrics.expired_nodes.inc();
            self.group.propose(|at| Command::Expire { at, node, incarnation }).await?;
        }
        Ok(())
    }

    /// Ends the leases of tenants that are due, so many that the rest of the chores wait a moment only.
    async fn end_leases(&self) -> Result<(), ProposeError> {
        let next_end = || self.group.machine.state().directory.accounts().leases().next_end();
        if next_end().is_some_and(|until| until <= self.group.log_time()) {
            self.group.propose(|at| Command::ExpireLeases { at }).await?;
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<(), ProposeError> {
        if self.group.machine.glance().sweep_due {
            self.group.propose(|at| Command::Sweep { at, budget: SWEEP_BUDGET }).await?;
        }
        Ok(())
    }

    async fn agree_on_limits(&self) -> Result<(), ProposeError> {
        let (limits, agreed) = (self.limits, self.group.machine.glance().limits);
        if limits == agreed {
            return Ok(());
        }
        info!(?limits, ?agreed, "proposing this member's limits");
        match self.group.propose(|at| Command::SetLimits { at, limits }).await? {
            Outcome::Refused(reason) => warn!(reason, "the directory refused the configured limits"),
            _ => info!(?limits, "limits agreed"),
        }
        Ok(())
    }

    async fn snapshot(&self) {
        if self.group.machine.unsnapshotted_bytes() > self.snapshot_bytes
            && let Err(error) = self.group.raft.trigger().snapshot().await
        {
            debug!(%error, "no snapshot: this member has stopped taking part");
        }
    }

    /// Lets go of entries that the newest snapshot covers, as far as they are more than is to be kept. Openraft itself counts
    /// entries, and they may have a mebibyte each.
    async fn purge(&self) {
        let covered = self.group.machine.snapshot_index();
        if let Some(upto) = covered.and_then(|covered| self.log.purgeable(covered, self.keep_bytes))
            && let Err(error) = self.group.raft.trigger().purge_log(upto).await
        {
            debug!(%error, "the log is not shortened: this member has stopped taking part");
        }
    }
}
