//! A simulated node: what its holders hold is a set that the history changes; how metadata hears of it is the node's own outbox
//! and its own comparison, driven as the reporter drives them, over the real client.

mod holder;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use weft_index::{Change, Report, ReportAck};
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_node::testing::{Compared, Comparer, Pace};
use weft_transport::memory::Network;
use weft_transport::{Fabric, Peer};
use weft_types::{ByteSize, EndpointId, EndpointSpec, HolderKey, Incarnation, NodeId, NodeSpec, Role, Tier};

use self::holder::Holder;
pub(crate) use self::holder::Mishap;
use crate::chronicle::Chronicle;
use crate::invariants::Invariants;
use crate::invariants::the_index_equals_the_holdings_once_quiet::Holdings;
use crate::world::Guards;

/// As the reporter has them.
const REPORTS_BYTES_PER_CALL: usize = 256 << 10;
const DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of a node that sends nothing again, so that there is much that it does not.
const IMPATIENT: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(200);
const GATHER: Duration = Duration::from_millis(5);
const BEATS_PER_LEASE: u32 = 4;

/// Between two comparisons of a holder: often, against the minute of a real node, so that a run sees many.
const ANTI_ENTROPY: Duration = Duration::from_millis(1500);

/// What a node is part of.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) network: Network,
    pub(crate) members: Vec<SocketAddr>,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) invariants: Arc<Invariants>,
    pub(crate) guards: Guards,
}

/// A node over all its lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) incarnation: u64,
    surroundings: Surroundings,
    life: Option<Life>,
}

#[derive(Debug)]
struct Life {
    fabric: Fabric,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    spec: NodeSpec,
    state: Mutex<State>,
    changed: Notify,
    client: MetadataClient,
    comparer: Comparer,
    dice: u64,
    surroundings: Surroundings,
}

#[derive(Debug, Default)]
struct State {
    host: Holder,
    engine: Option<Engine>,
    /// Endpoints that metadata has not been told are gone.
    gone: Vec<(EndpointId, Incarnation)>,
    lease: Option<Duration>,
    /// Metadata does not know this node any more.
    unknown: bool,
}

#[derive(Debug)]
struct Engine {
    spec: EndpointSpec,
    holder: Holder,
}

/// When to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Now,
    Later,
    WhenSomethingHappens,
}

/// Which holder of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    Host,
    Engine,
}

impl Node {
    pub(crate) fn new(id: NodeId, addr: SocketAddr, surroundings: Surroundings) -> Self {
        Self { id, addr, incarnation: 0, surroundings, life: None }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Begins its next life, with nothing held.
    pub(crate) fn start(&mut self) {
        self.incarnation += 1;
        let me = Peer { cluster: "sim".parse().expect("a name"), role: Role::Node, name: self.id.name().clone() };
        let fabric = self.surroundings.network.bind(self.addr, me);
        let seed = self.incarnation.wrapping_mul(31).wrapping_add(u64::from(self.addr.port()));
        let client = MetadataClient::new(fabric.clone(), self.surroundings.members.clone()).with_jitter(seed);
        let spec = NodeSpec {
            id: self.id.clone(),
            incarnation: Incarnation::new(self.incarnation),
            fabric: self.addr,
            bulk: self.addr,
            capacity: [(Tier::Host, ByteSize::from_mib(1))].into(),
            labels: Default::default(),
        };
        let surroundings = self.surroundings.clone();
        let shared = Arc::new(Shared {
            spec,
            state: Mutex::default(),
            changed: Notify::new(),
            client,
            comparer: Comparer::new(),
            dice: seed,
            surroundings,
        });
        let tasks = vec![tokio::spawn(report(Arc::clone(&shared))), tokio::spawn(keep_alive(Arc::clone(&shared)))];
        self.life = Some(Life { fabric, shared, tasks });
    }

    /// Dies without a word.
    pub(crate) fn crash(&mut self) {
        if let Some(life) = self.life.take() {
            self.surroundings.network.cut_off(self.addr);
            life.tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// Leaves the roster as a node does that is drained, and ends.
    pub(crate) fn leave(&mut self) {
        let Some(life) = self.life.take() else { return };
        let (id, incarnation) = (self.id.clone(), Incarnation::new(self.incarnation));
        life.tasks.iter().for_each(JoinHandle::abort);
        tokio::spawn(async move {
            // It dies afterwards, heard or not.
            drop(life.shared.client.leave(&id, incarnation, DEADLINE).await);
            life.fabric.close().await;
        });
    }

    pub(crate) fn fabric(&self) -> Option<Fabric> {
        self.life.as_ref().map(|life| life.fabric.clone())
    }

    /// Blocks are stored and removed.
    pub(crate) fn change(&self, which: Which, changes: &[Change]) {
        let Some(life) = &self.life else { return };
        if let Some(holder) = life.shared.state.lock().holder(which) {
            changes.iter().for_each(|change| holder.truth.change(*change));
            life.shared.changed.notify_one();
        }
    }

    /// Something goes wrong with what is told of a holder.
    pub(crate) fn suffer(&self, which: Which, mishap: Mishap, changes: &[Change]) {
        let Some(life) = &self.life else { return };
        if let Some(holder) = life.shared.state.lock().holder(which) {
            holder.truth.suffer(mishap, changes);
        }
        if mishap != Mishap::Unnoticed {
            life.shared.changed.notify_one();
        }
    }

    /// A holder of which the last comparison found that it is not listed as it is.
    pub(crate) fn differs(&self) -> Option<Which> {
        let mut state = self.life.as_ref()?.shared.state.lock();
        let differs = |which: &Which| state.holder(*which).is_some_and(|holder| holder.outbox.differs());
        [Which::Host, Which::Engine].into_iter().find(differs)
    }

    /// An engine attaches, or the one that is attached goes.
    pub(crate) fn toggle_engine(&self, incarnation: u64) {
        let Some(life) = &self.life else { return };
        let state = &mut *life.shared.state.lock();
        match state.engine.take() {
            Some(engine) => state.gone.push((engine.spec.id, engine.spec.incarnation)),
            None => {
                let spec = EndpointSpec {
                    id: format!("engine-{}", self.id).parse().expect("a name"),
                    incarnation: Incarnation::new(incarnation),
                    url: "http://127.0.0.1:1".to_owned(),
                    node: Some(self.id.clone()),
                    ranks: 1,
                    contracts: Vec::new(),
                };
                state.gone.retain(|(gone, _)| *gone != spec.id);
                state.engine = Some(Engine { spec, holder: Holder::default() });
            }
        }
        life.shared.changed.notify_one();
    }

    /// What it holds, by holder.
    pub(crate) fn held(&self, into: &mut Holdings) {
        let Some(life) = &self.life else { return };
        let state = life.shared.state.lock();
        into.insert(HolderKey::Node { node: self.id.clone(), tier: Tier::Host }, state.host.truth.held());
        if let Some(engine) = &state.engine {
            let key = HolderKey::Device { endpoint: engine.spec.id.clone(), rank: 0 };
            into.insert(key, engine.holder.truth.held());
        }
    }

    /// It has nothing more to say.
    pub(crate) fn is_quiet(&self) -> bool {
        let Some(life) = &self.life else { return true };
        let state = life.shared.state.lock();
        let engine = state.engine.as_ref().is_none_or(|engine| engine.holder.is_quiet());
        state.host.is_quiet() && engine && state.gone.is_empty() && !state.unknown
    }

    /// Sends the first report of each present grant once more: the acknowledgement says how many were applied.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let Some(life) = &self.life else { return Ok(()) };
        let firsts: Vec<Report> = {
            let state = life.shared.state.lock();
            let holders = std::iter::once(&state.host).chain(state.engine.as_ref().map(|engine| &engine.holder));
            holders.filter_map(|holder| holder.first.clone()).collect()
        };
        if firsts.is_empty() {
            return Ok(());
        }
        let acks = life.shared.client.report(&firsts, 5 * DEADLINE).await.map_err(|error| error.to_string())?;
        for (report, ack) in firsts.iter().zip(acks) {
            let last = life
                .shared
                .surroundings
                .invariants
                .acknowledged(|acknowledged| acknowledged.last_report(report.holder, report.generation));
            match ack {
                ReportAck::Applied { number } if number >= last => {}
                other => return Err(format!("{}: report {last} was acknowledged, now {other:?}", self.id)),
            }
        }
        Ok(())
    }
}

async fn report(shared: Arc<Shared>) {
    let mut dice = ChaCha8Rng::seed_from_u64(shared.dice);
    let every = if shared.surroundings.guards.compare { ANTI_ENTROPY } else { Duration::ZERO };
    let mut pace = Pace::new(every, dice.random());
    loop {
        match shared.update().await {
            Ok(Next::Now) => {}
            Ok(Next::Later) => sleep(RETRY).await,
            Ok(Next::WhenSomethingHappens) => {
                tokio::select! {
                    biased;
                    () = shared.changed.notified() => sleep(GATHER).await,
                    () = turn(&pace) => shared.turn(&mut pace, &mut dice),
                }
            }
            Err(error) => {
                shared.note(format_args!("has trouble: {error}"));
                sleep(RETRY).await;
            }
        }
    }
}

async fn turn(pace: &Pace) {
    match pace.next() {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

async fn keep_alive(shared: Arc<Shared>) {
    loop {
        let Some(lease) = shared.state.lock().lease else {
            sleep(RETRY).await;
            continue;
        };
        sleep(lease / BEATS_PER_LEASE).await;
        let NodeSpec { id, incarnation, .. } = &shared.spec;
        if let Ok(false) = shared.client.keep_alive(id, *incarnation, lease / 2).await {
            shared.note("is unknown");
            let mut state = shared.state.lock();
            state.unknown = true;
            state.lease = None;
            shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn note(&self, what: impl std::fmt::Display) {
        self.surroundings.chronicle.note(format_args!("{} {what}", self.spec.id));
    }

    /// As the reporter's: one step towards metadata knowing everything.
    async fn update(&self) -> Result<Next, MetadataError> {
        {
            let state = &mut *self.state.lock();
            if std::mem::take(&mut state.unknown) {
                state.host.outbox.make_stale();
                if let Some(engine) = &mut state.engine {
                    engine.holder.outbox.make_stale();
                }
            }
            let engine = state.engine.as_mut().map(|engine| &mut engine.holder);
            for holder in std::iter::once(&mut state.host).chain(engine) {
                holder.outbox.collect(&*holder.truth);
            }
        }
        self.join().await?;
        self.put().await?;
        self.remove_gone().await?;
        let sent = self.send().await?;
        Ok(match self.compare().await? {
            Next::WhenSomethingHappens if sent => Next::Now,
            next => next,
        })
    }

    /// Whose turn it is to be compared.
    fn turn(&self, pace: &mut Pace, dice: &mut ChaCha8Rng) {
        let state = &mut *self.state.lock();
        let holders = 1 + usize::from(state.engine.is_some());
        let which = if pace.take(holders, dice.random()) == 0 { Which::Host } else { Which::Engine };
        if let Some(holder) = state.holder(which) {
            holder.outbox.ask_comparison();
        }
    }

    /// Compares the holders that are to be compared, if everything of them is acknowledged.
    async fn compare(&self) -> Result<Next, MetadataError> {
        let mut next = Next::WhenSomethingHappens;
        for which in [Which::Host, Which::Engine] {
            let borrowed = self.state.lock().holder(which).map(|holder| {
                holder.compared = true;
                (std::mem::take(&mut holder.outbox), Arc::clone(&holder.truth))
            });
            let Some((mut outbox, truth)) = borrowed else { continue };
            let compared = match self.surroundings.guards.compare {
                true => self.comparer.compare(&self.client, &mut outbox, &*truth, DEADLINE).await,
                false => Ok(Compared::Done),
            };
            let compared_by = format!("{compared:?}");
            if let Some(holder) = self.state.lock().holder(which)
                && Arc::ptr_eq(&holder.truth, &truth)
            {
                (holder.outbox, holder.compared) = (outbox, false);
            }
            match compared? {
                Compared::Repairing => {
                    self.note(format_args!("compares its {which:?}: {compared_by}"));
                    next = Next::Now;
                }
                Compared::Early if next != Next::Now => next = Next::Later,
                Compared::Early | Compared::Done => {}
            }
        }
        Ok(next)
    }

    async fn join(&self) -> Result<(), MetadataError> {
        if !self.state.lock().host.outbox.is_stale() {
            return Ok(());
        }
        let joined = self.client.join(&self.spec, DEADLINE).await?;
        self.note(format_args!("joined: {:?}", joined.grants));
        let NodeSpec { id, incarnation, .. } = &self.spec;
        self.surroundings.invariants.acknowledged(|acknowledged| acknowledged.joined(id, *incarnation));
        let mut state = self.state.lock();
        state.lease = Some(joined.lease);
        if let Some(grant) = joined.grants.into_iter().next() {
            state.host.start(grant);
        }
        Ok(())
    }

    async fn put(&self) -> Result<(), MetadataError> {
        let stale = {
            let state = self.state.lock();
            let stale = state.engine.as_ref().filter(|engine| engine.holder.outbox.is_stale());
            stale.map(|engine| engine.spec.clone())
        };
        let Some(spec) = stale else { return Ok(()) };
        let grants = match self.client.put_endpoint(&spec, DEADLINE).await {
            Ok(grants) => grants,
            // Its node may have been taken for dead.
            Err(error @ MetadataError::Refused(_)) => {
                self.state.lock().host.outbox.make_stale();
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.note(format_args!("put its engine: {grants:?}"));
        let mut state = self.state.lock();
        if let Some(engine) = state.engine.as_mut().filter(|engine| engine.spec == spec)
            && let Some(grant) = grants.into_iter().next()
        {
            self.surroundings.invariants.acknowledged(|acknowledged| acknowledged.put(&spec.id, spec.incarnation));
            engine.holder.start(grant);
        }
        Ok(())
    }

    async fn remove_gone(&self) -> Result<(), MetadataError> {
        loop {
            let Some((endpoint, incarnation)) = self.state.lock().gone.last().cloned() else { return Ok(()) };
            self.surroundings.invariants.acknowledged(|acknowledged| acknowledged.may_be_removed(&endpoint));
            self.client.remove_endpoint(&endpoint, incarnation, DEADLINE).await?;
            self.state.lock().gone.retain(|gone| *gone != (endpoint.clone(), incarnation));
        }
    }

    async fn send(&self) -> Result<bool, MetadataError> {
        let (reports, of_host) = {
            let state = &mut *self.state.lock();
            let mut reports = state.host.batch(REPORTS_BYTES_PER_CALL);
            let of_host = reports.len();
            if let Some(engine) = &mut state.engine {
                reports.extend(engine.holder.batch(REPORTS_BYTES_PER_CALL));
            }
            (reports, of_host)
        };
        if reports.is_empty() {
            return Ok(false);
        }
        let deadline = if self.surroundings.guards.retransmit { DEADLINE } else { IMPATIENT };
        let answered = self.client.report(&reports, deadline).await;
        let acks = match answered {
            Ok(acks) => acks,
            // The guard that is switched off: what was not acknowledged is taken for done.
            Err(_) if !self.surroundings.guards.retransmit => {
                reports.iter().map(|report| ReportAck::Applied { number: report.number }).collect()
            }
            Err(error) => return Err(error),
        };
        let state = &mut *self.state.lock();
        for (at, (report, ack)) in reports.iter().zip(acks).enumerate() {
            if let ReportAck::Applied { number } | ReportAck::Replaced { number, .. } = ack
                && self.surroundings.guards.retransmit
            {
                let note = |acknowledged: &mut crate::invariants::no_acknowledged_fact_is_lost::Acknowledged| {
                    acknowledged.reported(report.holder, report.generation, number);
                };
                self.surroundings.invariants.acknowledged(note);
            }
            let holder = match at < of_host {
                true => Some(&mut state.host),
                false => state.engine.as_mut().map(|engine| &mut engine.holder),
            };
            if let Some(holder) = holder {
                holder.outbox.answered(ack);
            }
        }
        Ok(true)
    }
}

impl State {
    fn holder(&mut self, which: Which) -> Option<&mut Holder> {
        match which {
            Which::Host => Some(&mut self.host),
            Which::Engine => self.engine.as_mut().map(|engine| &mut engine.holder),
        }
    }
}
