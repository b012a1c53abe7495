//! The reporter: one task that owns this node's place in the roster and the outboxes of all its holders.
//!
//! It turns the world into one [`Event`], applies it, and then brings metadata up to date: join if it has to, put the
//! endpoints that have to be put, send what is not acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_index::Change;
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_store::TierChange;
use weft_types::{BlockHash, EndpointId, EndpointSpec, HolderKey, NodeSpec, Tier};

use super::device::DeviceHeld;
use super::keep_alive::keep_alive;
use super::outbox::Outbox;
use crate::arenas::Arenas;
use crate::metrics::Metrics;

/// Changes gather this long before they are sent: short against any request, long enough to share a log entry.
const GATHER: Duration = Duration::from_millis(5);

/// Reports in one call: 8, at most half of the 1 MiB that metadata takes.
const REPORTS_PER_CALL: usize = 8;

/// Wait after metadata did not answer. The call itself waited for its deadline already.
const RETRY: Duration = Duration::from_millis(200);

/// Attachments and detachments that may wait. Engines come and go a few a minute.
const COMMANDS_MAX: usize = 256;

/// What metadata says to an engine: refused for the reason given, at once or later.
pub(crate) type Verdict = Result<(), String>;

/// An engine that attaches.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Number of its session: a later one of the same name replaces it.
    pub(crate) session: u64,
    /// What it is.
    pub(crate) spec: EndpointSpec,
    /// What it holds.
    pub(crate) device: Arc<Mutex<DeviceHeld>>,
    /// What metadata says to it; `None` until it has said something.
    pub(crate) verdict: watch::Sender<Option<Verdict>>,
}

#[derive(Debug)]
enum Command {
    Attach(Attached),
    Detach { endpoint: EndpointId, session: u64 },
    Leave { within: Duration, done: oneshot::Sender<()> },
}

/// Speaks to the reporter. Clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct ReporterHandle {
    commands: mpsc::Sender<Command>,
    changed: Arc<Notify>,
}

/// The task's state.
pub(crate) struct Reporter {
    metadata: MetadataClient,
    node: NodeSpec,
    arenas: Arc<Arenas>,
    metrics: Metrics,
    deadline: Duration,
    lease: watch::Sender<Option<Duration>>,
    host: Outbox,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Endpoints whose engine is gone, and which metadata has not been told of.
    gone: Vec<EndpointSpec>,
    /// What was last complained about, so that an outage is one line.
    trouble: String,
}

struct Endpoint {
    attached: Attached,
    outbox: Outbox,
    /// Metadata refused it once: perhaps because it had taken this node for dead, which joining again mends.
    refused: bool,
}

#[derive(PartialEq, Eq)]
enum Put {
    Done,
    /// Join, then try once more.
    Again,
}

enum Event {
    Command(Option<Command>),
    Changed,
    Unknown,
    Retry,
}

impl ReporterHandle {
    /// An engine attaches; its verdict comes through [`Attached::verdict`].
    pub(crate) async fn attach(&self, attached: Attached) {
        // The reporter is gone only when the node is.
        drop(self.commands.send(Command::Attach(attached)).await);
    }

    /// An engine is gone.
    pub(crate) async fn detach(&self, endpoint: EndpointId, session: u64) {
        drop(self.commands.send(Command::Detach { endpoint, session }).await);
    }

    /// There is something to report.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Leaves the roster, and ends the reporter.
    pub(crate) async fn leave(&self, within: Duration) {
        let (done, left) = oneshot::channel();
        if self.commands.send(Command::Leave { within, done }).await.is_ok() {
            drop(left.await);
        }
    }
}

impl Reporter {
    /// Starts the reporter and the keep-alive, which end with [`ReporterHandle::leave`] or `stop`.
    pub(crate) fn spawn(
        (metadata, node): (MetadataClient, NodeSpec),
        (arenas, changed): (Arc<Arenas>, Arc<Notify>),
        metrics: Metrics,
        deadline: Duration,
        (tasks, stop): (&TaskTracker, &CancellationToken),
    ) -> ReporterHandle {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (lease, leased) = watch::channel(None);
        let unknown = Arc::new(Notify::new());
        let beat =
            keep_alive(metadata.clone(), node.id.clone(), node.incarnation, leased, Arc::clone(&unknown), stop.clone());
        tasks.spawn(beat);
        let reporter = Self {
            metadata,
            node,
            arenas,
            metrics,
            deadline,
            lease,
            host: Outbox::default(),
            endpoints: BTreeMap::new(),
            gone: Vec::new(),
            trouble: String::new(),
        };
        tasks.spawn(reporter.run(received, Arc::clone(&changed), unknown, stop.clone()));
        ReporterHandle { commands, changed }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        changed: Arc<Notify>,
        unknown: Arc<Notify>,
        stop: CancellationToken,
    ) {
        let mut retry = Some(Instant::now());
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                command = commands.recv() => Event::Command(command),
                () = unknown.notified() => Event::Unknown,
                () = changed.notified(), if retry.is_none() => Event::Changed,
                () = wait_until(retry) => Event::Retry,
            };
            match event {
                Event::Command(None) => return,
                Event::Command(Some(Command::Leave { within, done })) => {
                    self.leave(within).await;
                    // Whoever asked may have given up.
                    let _ = done.send(());
                    return;
                }
                Event::Command(Some(Command::Attach(attached))) => self.attach(attached),
                Event::Command(Some(Command::Detach { endpoint, session })) => self.detach(&endpoint, session),
                Event::Unknown => self.forget_grants(),
                Event::Changed => tokio::time::sleep(GATHER).await,
                Event::Retry => {}
            }
            let updated = self.update().await;
            self.metrics.reports_waiting.set(self.waiting());
            retry = match updated {
                Ok(more) => {
                    self.trouble.clear();
                    more.then(Instant::now)
                }
                Err(error) => {
                    self.complain(&error);
                    Some(Instant::now() + RETRY)
                }
            };
        }
    }

    fn complain(&mut self, error: &MetadataError) {
        self.metrics.reports.unanswered.inc();
        let error = error.to_string();
        if self.trouble != error {
            tracing::warn!(%error, "metadata is not up to date with this node: trying again until it is");
            self.trouble = error;
        }
        // An engine does not wait for metadata: it may attach, and is refused later if it has to be.
        self.endpoints.values().for_each(|endpoint| accept(&endpoint.attached));
    }

    fn waiting(&self) -> i64 {
        let devices: usize = self.endpoints.values().map(|endpoint| endpoint.outbox.waiting()).sum();
        i64::try_from(self.host.waiting() + devices).unwrap_or(i64::MAX)
    }

    fn attach(&mut self, attached: Attached) {
        let id = attached.spec.id.clone();
        if let Some(known) = self.endpoints.get(&id) {
            // An engine that was restarted replaces its former self; two engines of one name do not replace each other in
            // turns.
            if known.attached.spec.incarnation >= attached.spec.incarnation {
                let reason = format!(
                    "an engine is attached as endpoint {id} already, at incarnation {}: give each engine a name of its own, \
                     and a higher incarnation after a restart",
                    known.attached.spec.incarnation,
                );
                return refuse(&attached, reason);
            }
            refuse(&known.attached, format!("a later life of endpoint {id} attached"));
        }
        self.gone.retain(|gone| gone.id != id);
        self.endpoints.insert(id, Endpoint { attached, outbox: Outbox::default(), refused: false });
    }

    fn detach(&mut self, endpoint: &EndpointId, session: u64) {
        if self.endpoints.get(endpoint).is_some_and(|known| known.attached.session == session)
            && let Some(known) = self.endpoints.remove(endpoint)
        {
            self.gone.push(known.attached.spec);
        }
    }

    fn forget_grants(&mut self) {
        self.lease.send_replace(None);
        self.host.make_stale();
        self.endpoints.values_mut().for_each(|endpoint| endpoint.outbox.make_stale());
    }

    /// Brings metadata up to date by one step. `true` when there may be more to do.
    async fn update(&mut self) -> Result<bool, MetadataError> {
        self.collect();
        self.grant().await?;
        self.remove_gone().await?;
        self.send().await
    }

    /// Moves what changed into the outboxes.
    fn collect(&mut self) {
        match self.arenas.take_changes() {
            Some(changes) => self.host.note(changes.into_iter().map(index_change)),
            None => self.host.make_stale(),
        }
        for endpoint in self.endpoints.values_mut() {
            match endpoint.attached.device.lock().take_changes() {
                Some(changes) => endpoint.outbox.note(changes),
                None => endpoint.outbox.make_stale(),
            }
        }
    }

    /// Joins, and puts endpoints, where a grant is missing.
    async fn grant(&mut self) -> Result<(), MetadataError> {
        self.join().await?;
        let stale = self.endpoints.iter().filter(|(_, endpoint)| endpoint.outbox.is_stale());
        let stale: Vec<_> = stale.map(|(id, _)| id.clone()).collect();
        for id in stale {
            while self.put(&id).await? == Put::Again {
                self.join().await?;
            }
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), MetadataError> {
        if !self.host.is_stale() {
            return Ok(());
        }
        self.metrics.reports.resyncs.inc();
        let joined = self.metadata.join(&self.node, self.deadline).await?;
        self.lease.send_replace(Some(joined.lease));
        let host = HolderKey::Node { node: self.node.id.clone(), tier: Tier::Host };
        if let Some(grant) = joined.grants.into_iter().find(|grant| grant.key == host) {
            let held = self.arenas.held();
            tracing::info!(holder = %grant.holder, generation = %grant.generation, blocks = held.len(), "joined");
            self.host.start(grant, held.iter().map(BlockHash::index_key));
        }
        Ok(())
    }

    async fn put(&mut self, id: &EndpointId) -> Result<Put, MetadataError> {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return Ok(Put::Done) };
        let grants = match self.metadata.put_endpoint(&endpoint.attached.spec, self.deadline).await {
            Ok(grants) => grants,
            Err(error @ MetadataError::Unavailable { .. }) => return Err(error),
            Err(MetadataError::Refused(_)) if !endpoint.refused => {
                endpoint.refused = true;
                self.host.make_stale();
                return Ok(Put::Again);
            }
            Err(refused) => {
                tracing::error!(endpoint = %id, error = %refused, "metadata refuses the endpoint");
                refuse(&endpoint.attached, refused.to_string());
                self.endpoints.remove(id);
                return Ok(Put::Done);
            }
        };
        endpoint.refused = false;
        // Rank 0: an attachment speaks for one rank.
        if let Some(grant) = grants.into_iter().next() {
            let held = endpoint.attached.device.lock().held();
            tracing::info!(endpoint = %id, holder = %grant.holder, blocks = held.len(), "endpoint listed");
            endpoint.outbox.start(grant, held);
        }
        accept(&endpoint.attached);
        Ok(Put::Done)
    }

    async fn remove_gone(&mut self) -> Result<(), MetadataError> {
        while let Some(gone) = self.gone.last() {
            self.metadata.remove_endpoint(&gone.id, gone.incarnation, self.deadline).await?;
            self.gone.pop();
        }
        Ok(())
    }

    /// Sends one batch. `false` when there was nothing to send.
    async fn send(&mut self) -> Result<bool, MetadataError> {
        let outboxes = std::iter::once(&mut self.host);
        let outboxes = outboxes.chain(self.endpoints.values_mut().map(|endpoint| &mut endpoint.outbox));
        let mut reports = Vec::new();
        let mut senders = Vec::new();
        for outbox in outboxes {
            let (batch, again) = outbox.next_batch(REPORTS_PER_CALL - reports.len());
            self.metrics.reports.resent.inc_by(again as u64);
            reports.extend(batch);
            senders.push((reports.len(), outbox));
        }
        if reports.is_empty() {
            return Ok(false);
        }
        self.metrics.reports.sent.inc_by(reports.len() as u64);
        let acks = self.metadata.report(&reports, self.deadline).await?;
        let mut acks = acks.into_iter().enumerate().peekable();
        for (end, outbox) in senders {
            while let Some((_, ack)) = acks.next_if(|(position, _)| *position < end) {
                self.metrics.reports.acked.inc_by(outbox.answered(ack) as u64);
            }
        }
        Ok(true)
    }

    /// The engines that are attached stay listed: they serve without their node. The directory retires what they hold, as it
    /// does when a node dies.
    async fn leave(&mut self, within: Duration) {
        self.lease.send_replace(None);
        let left = async {
            self.remove_gone().await?;
            self.metadata.leave(&self.node.id, self.node.incarnation, within).await
        };
        match tokio::time::timeout(within, left).await {
            Ok(Ok(())) => tracing::info!("left the roster"),
            Ok(Err(error)) => tracing::warn!(%error, "could not leave the roster: the lease will end it"),
            Err(_) => tracing::warn!(?within, "could not leave the roster in time: the lease will end it"),
        }
    }
}

fn accept(attached: &Attached) {
    attached.verdict.send_if_modified(|verdict| verdict.is_none().then(|| *verdict = Some(Ok(()))).is_some());
}

fn refuse(attached: &Attached, reason: String) {
    attached.verdict.send_replace(Some(Err(reason)));
}

fn index_change(change: TierChange) -> Change {
    match change {
        TierChange::Stored(block) => Change::Stored(block.index_key()),
        TierChange::Removed(block) => Change::Removed(block.index_key()),
    }
}

async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use weft_index::Report;
    use weft_metadata_state::Command;
    use weft_types::{Generation, HolderId, Incarnation, IndexKey};

    use super::*;
    use crate::report::outbox::CHANGES_PER_REPORT;

    #[test]
    fn a_call_full_of_reports_is_taken_by_metadata() {
        let full = Report {
            holder: HolderId::new(0),
            generation: Generation::new(0),
            incarnation: Incarnation::new(0),
            number: 1,
            form: weft_index::ReportForm::default(),
            changes: vec![Change::Stored(IndexKey::from_bytes([0; 16])); CHANGES_PER_REPORT],
        };
        assert!(full.encoded_len() * REPORTS_PER_CALL <= Command::REPORTS_BYTES_MAX);
    }
}
