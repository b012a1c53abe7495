//! The reporter: one task that owns this node's place in the roster and the outboxes of all its holders.
//!
//! It turns the world into one [`Event`], applies it, and then brings metadata up to date: join if it has to, put the
//! endpoints that have to be put, send what is not acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGaugeVec;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_index::Report;
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_types::{EndpointId, EndpointSpec, HolderGrant, HolderKey, IndexKey, NodeSpec, Tier};

use super::comparison::{Compared, compare};
use super::device::DeviceHeld;
use super::held::Held;
use super::keep_alive::keep_alive;
use super::outbox::Outbox;
use super::pace::Pace;
use crate::arenas::Arenas;
use crate::disk::{Disk, Phase};
use crate::metrics::Metrics;

/// Changes gather this long before they are sent: short against any request, long enough to share a log entry.
const GATHER: Duration = Duration::from_millis(5);

/// Weight of the reports in one call: half of the 1 MiB that metadata takes, so that two nodes' share an entry.
const CALL_WEIGHT_MAX: usize = 1 << 19;

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

/// How it goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Longest wait for an answer.
    pub(crate) deadline: Duration,
    /// Time between two comparisons of one holder; zero: never, but after a loss.
    pub(crate) anti_entropy: Duration,
}

/// What the node itself holds.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) arenas: Arc<Arenas>,
    pub(crate) disk: Option<Arc<Disk>>,
}

/// The disk tier's part.
struct DiskSide {
    disk: Arc<Disk>,
    outbox: Outbox,
    /// Granted, while the tier is being opened: what is found will be reported under it, whole.
    waiting: Option<HolderGrant>,
}

/// The task's state.
pub(crate) struct Reporter {
    metadata: MetadataClient,
    node: NodeSpec,
    arenas: Arc<Arenas>,
    disk: Option<DiskSide>,
    metrics: Metrics,
    deadline: Duration,
    pace: Pace,
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
    Turn,
}

/// When to go on.
#[derive(PartialEq, Eq)]
enum Next {
    Now,
    Later,
    WhenSomethingHappens,
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

/// Resolves when metadata refuses the endpoint, however late.
pub(crate) async fn refused(verdict: &mut watch::Receiver<Option<Verdict>>) -> String {
    let verdict = verdict.wait_for(|verdict| matches!(verdict, Some(Err(_)))).await;
    match verdict.map(|verdict| verdict.clone()) {
        Ok(Some(Err(reason))) => reason,
        // No reporter, or it is gone: nobody is left to refuse.
        _ => std::future::pending().await,
    }
}

impl Reporter {
    /// Starts the reporter and the keep-alive, which end with [`ReporterHandle::leave`] or `stop`.
    pub(crate) fn spawn(
        (metadata, node): (MetadataClient, NodeSpec),
        (own, changed): (Own, Arc<Notify>),
        metrics: Metrics,
        Terms { deadline, anti_entropy }: Terms,
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
            arenas: own.arenas,
            disk: own.disk.map(|disk| DiskSide { disk, outbox: Outbox::default(), waiting: None }),
            metrics,
            deadline,
            pace: Pace::new(anti_entropy, Instant::now(), rand::random()),
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
                () = wait_until(self.pace.next()) => Event::Turn,
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
                Event::Turn => self.turn(),
            }
            let updated = self.update().await;
            self.metrics.reports_waiting.set(self.waiting());
            retry = match updated {
                Ok(next) => {
                    self.trouble.clear();
                    match next {
                        Next::Now => Some(Instant::now()),
                        Next::Later => Some(Instant::now() + RETRY),
                        Next::WhenSomethingHappens => None,
                    }
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
        let disk = self.disk.as_ref().map_or(0, |disk| disk.outbox.waiting());
        i64::try_from(self.host.waiting() + disk + devices).unwrap_or(i64::MAX)
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
        self.disk.iter_mut().for_each(DiskSide::make_stale);
        self.endpoints.values_mut().for_each(|endpoint| endpoint.outbox.make_stale());
    }

    /// Whose turn it is to be compared.
    fn turn(&mut self) {
        let own = 1 + usize::from(self.disk.is_some());
        let turn = self.pace.take(own + self.endpoints.len(), Instant::now(), rand::random());
        let outboxes = std::iter::once(&mut self.host);
        let outboxes = outboxes.chain(self.disk.iter_mut().map(|disk| &mut disk.outbox));
        let mut outboxes = outboxes.chain(self.endpoints.values_mut().map(|endpoint| &mut endpoint.outbox));
        if let Some(outbox) = outboxes.nth(turn) {
            outbox.ask_comparison();
        }
    }

    /// Brings metadata up to date by one step.
    async fn update(&mut self) -> Result<Next, MetadataError> {
        self.collect();
        self.grant().await?;
        self.remove_gone().await?;
        let sent = self.send().await?;
        Ok(match self.compare().await? {
            Next::WhenSomethingHappens if sent => Next::Now,
            next => next,
        })
    }

    /// Moves what changed into the outboxes.
    fn collect(&mut self) {
        let resyncs = self.metrics.resyncs.overflow.clone();
        let collect = |outbox: &mut Outbox, held: &dyn Held| {
            let overflowed = match held.take_changes() {
                Some(changes) => outbox.note(changes),
                None => {
                    outbox.break_off();
                    true
                }
            };
            resyncs.inc_by(u64::from(overflowed));
        };
        collect(&mut self.host, &*self.arenas);
        if let Some(side) = &mut self.disk {
            side.begin();
            collect(&mut side.outbox, &*side.disk);
        }
        for endpoint in self.endpoints.values_mut() {
            collect(&mut endpoint.outbox, &*endpoint.attached.device);
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
        if !self.host.is_stale() && self.disk.as_ref().is_none_or(|disk| !disk.is_stale()) {
            return Ok(());
        }
        self.metrics.resyncs.grant.inc();
        let joined = self.metadata.join(&self.node, self.deadline).await?;
        self.lease.send_replace(Some(joined.lease));
        let host = HolderKey::Node { node: self.node.id.clone(), tier: Tier::Host };
        let mut grants = joined.grants;
        if let Some(position) = grants.iter().position(|grant| grant.key == host) {
            let grant = grants.swap_remove(position);
            let held = everything(&*self.arenas);
            tracing::info!(holder = %grant.holder, generation = %grant.generation, blocks = held.len(), "joined");
            self.host.start(grant, held);
        }
        if let Some(side) = &mut self.disk {
            let disk = HolderKey::Node { node: self.node.id.clone(), tier: Tier::Disk };
            side.make_stale();
            side.waiting = grants.into_iter().find(|grant| grant.key == disk);
            side.begin();
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
            let held = everything(&*endpoint.attached.device);
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
        let outboxes = std::iter::once((Tier::Host, &mut self.host));
        let outboxes = outboxes.chain(self.disk.iter_mut().map(|disk| (Tier::Disk, &mut disk.outbox)));
        let devices = self.endpoints.values_mut().map(|endpoint| (Tier::Device, &mut endpoint.outbox));
        let mut reports = Vec::new();
        let (mut senders, mut room) = (Vec::new(), CALL_WEIGHT_MAX);
        for (tier, outbox) in outboxes.chain(devices) {
            let (batch, again) = outbox.next_batch(room);
            room -= batch.iter().map(Report::weight).sum::<usize>();
            self.metrics.reports.resent.inc_by(again as u64);
            reports.extend(batch);
            senders.push((reports.len(), tier, outbox));
        }
        if reports.is_empty() {
            return Ok(false);
        }
        self.metrics.reports.sent.inc_by(reports.len() as u64);
        let acks = self.metadata.report(&reports, self.deadline).await?;
        let mut acks = acks.into_iter().enumerate().peekable();
        for (end, tier, outbox) in senders {
            while let Some((_, ack)) = acks.next_if(|(position, _)| *position < end) {
                let answered = outbox.answered(ack);
                self.metrics.reports.acked.inc_by(answered.acknowledged as u64);
                self.metrics.resyncs.gap.inc_by(u64::from(answered.gap));
                self.metrics.divergence.repaired.with_label_values(&[tier.as_str()]).inc_by(answered.repaired);
            }
        }
        Ok(true)
    }

    /// Compares the holders that are to be compared, if everything of them is acknowledged.
    async fn compare(&mut self) -> Result<Next, MetadataError> {
        let devices = self.endpoints.values_mut();
        let devices = devices.map(|endpoint| (&mut endpoint.outbox, &*endpoint.attached.device as &dyn Held));
        let disk = self.disk.iter_mut().map(|side| (&mut side.outbox, &*side.disk as &dyn Held));
        let mut next = Next::WhenSomethingHappens;
        let own = std::iter::once((&mut self.host, &*self.arenas as &dyn Held)).chain(disk);
        for (outbox, held) in own.chain(devices) {
            match compare(&self.metadata, outbox, held, self.deadline, &self.metrics).await? {
                Compared::Repairing => next = Next::Now,
                Compared::Early if next != Next::Now => next = Next::Later,
                Compared::Early | Compared::Done => {}
            }
        }
        self.tell_divergence();
        Ok(next)
    }

    fn tell_divergence(&self) {
        let devices = self.endpoints.values().map(|endpoint| endpoint.outbox.found());
        let devices = devices.fold((0, 0), |sum, found| (sum.0 + found.blocks, sum.1 + found.partitions));
        let host = self.host.found();
        let disk = self.disk.as_ref().map(|disk| disk.outbox.found());
        let disk = disk.map(|found| (Tier::Disk, (found.blocks, found.partitions)));
        let others = [(Tier::Host, (host.blocks, host.partitions)), (Tier::Device, devices)];
        for (tier, (blocks, partitions)) in others.into_iter().chain(disk) {
            let set = |gauge: &IntGaugeVec, value| {
                gauge.with_label_values(&[tier.as_str()]).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.metrics.divergence.blocks, blocks);
            set(&self.metrics.divergence.partitions, partitions);
        }
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

impl DiskSide {
    /// Whether a grant is missing.
    fn is_stale(&self) -> bool {
        self.outbox.is_stale() && self.waiting.is_none()
    }

    fn make_stale(&mut self) {
        self.outbox.make_stale();
        self.waiting = None;
    }

    /// Once it is known what is on disk, all of it is reported.
    fn begin(&mut self) {
        if self.disk.phase() == Phase::Opening {
            return;
        }
        if let Some(grant) = self.waiting.take() {
            let held = everything(&*self.disk);
            tracing::info!(holder = %grant.holder, blocks = held.len(), "disk tier listed");
            self.outbox.start(grant, held);
        }
    }
}

fn accept(attached: &Attached) {
    attached.verdict.send_if_modified(|verdict| verdict.is_none().then(|| *verdict = Some(Ok(()))).is_some());
}

fn refuse(attached: &Attached, reason: String) {
    attached.verdict.send_replace(Some(Err(reason)));
}

/// Everything held. Changes up to now are taken by it.
fn everything(held: &dyn Held) -> Vec<IndexKey> {
    let mut keys = Vec::new();
    // What changed is in what is held.
    drop(held.cut(&mut |key| keys.push(key)));
    keys
}

async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use weft_index::{Change, PartitionId, Partitions, ReportForm};
    use weft_metadata_state::Command;
    use weft_types::{Generation, HolderId, Incarnation};

    use super::*;
    use crate::report::outbox::CHANGES_PER_REPORT;

    #[test]
    fn every_report_fits_a_call_and_every_call_an_entry() {
        const { assert!(CALL_WEIGHT_MAX <= Command::REPORTS_BYTES_MAX) };
        let last = PartitionId::new(Report::REPLACED_MAX as u16 - 1).unwrap();
        let replaces = Partitions::new(PartitionId::new(0).unwrap(), last);
        for replaces in [None, replaces] {
            let heaviest = Report {
                holder: HolderId::new(0),
                generation: Generation::new(0),
                incarnation: Incarnation::new(0),
                number: 1,
                form: ReportForm { replaces, continues: true },
                changes: vec![Change::Stored(IndexKey::from_bytes([0; 16])); CHANGES_PER_REPORT],
            };
            assert!(heaviest.weight() <= CALL_WEIGHT_MAX);
        }
    }
}
