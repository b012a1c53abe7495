//! The service under test's client: members that share a directory.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::watch;
use weft_index::DirectoryChange;
use weft_metadata_client::{FollowerMetrics, MetadataClient};
use weft_metadata_proto::v1::{
    BlockList, CutOff, HolderMatch, Joined, LookupResponse, Reply, RosterResponse, WatchItem, WatchRequest, method,
};
use weft_metadata_state::{Command, Directory, Outcome};
use weft_service::certs::Ca;
use weft_transport::{Fabric, Identity, Metrics, Profile, PublishError, Publisher, Refusal, Routes};
use weft_types::{ByteSize, Incarnation, LogTime, NodeSpec, Role, Tier};

/// Long enough for any machine; nothing waits for it unless something is broken.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const NODES: &[Role] = &[Role::Node];
const READERS: &[Role] = &[Role::Node, Role::Router];

/// The group: its members' sockets, and what they share.
pub(crate) struct Group {
    pub(crate) members: Vec<Fabric>,
    shared: Arc<Shared>,
    ca: Ca,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told after every applied command.
    applied: watch::Sender<u64>,
    /// How often a member said that it does not lead.
    pub(crate) redirected: watch::Sender<usize>,
    /// Watches served now.
    pub(crate) watching: watch::Sender<usize>,
    pub(crate) knobs: watch::Sender<Knobs>,
    addrs: Vec<SocketAddr>,
}

/// What a test holds back or makes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Knobs {
    /// No changes are sent.
    pub(crate) changes_held: bool,
    /// No snapshot is brought to its end.
    pub(crate) snapshots_held: bool,
    /// Each member says that the next one leads.
    pub(crate) hints_wrong: bool,
    /// A filtered watch is told to begin anew, once.
    pub(crate) filter_outgrown: bool,
}

struct State {
    directory: Directory,
    index: u64,
    leader: Option<usize>,
    /// The last changes, as many as are kept.
    log: VecDeque<(u64, Vec<DirectoryChange>)>,
    kept: usize,
}

impl Group {
    pub(crate) fn start(members: usize) -> Self {
        let ca = Ca::create("test").unwrap();
        let members: Vec<Fabric> = (1..=members).map(|id| bind(&ca, Role::Metadata, &id.to_string())).collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                directory: Directory::new(),
                index: 0,
                leader: Some(0),
                log: VecDeque::new(),
                kept: usize::MAX,
            }),
            applied: watch::Sender::new(0),
            redirected: watch::Sender::new(0),
            watching: watch::Sender::new(0),
            knobs: watch::Sender::new(Knobs::default()),
            addrs: members.iter().map(Fabric::local_addr).collect(),
        });
        for (member, fabric) in members.iter().enumerate() {
            fabric.serve(routes(member, &shared));
        }
        Self { members, shared, ca }
    }

    pub(crate) fn addr(&self, member: usize) -> SocketAddr {
        self.shared.addrs[member]
    }

    /// A client that is told of these members only.
    pub(crate) fn client(&self, role: Role, members: &[usize]) -> MetadataClient {
        let fabric = bind(&self.ca, role, "client");
        MetadataClient::new(fabric, members.iter().map(|member| self.addr(*member)).collect())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn lead(&self, member: Option<usize>) {
        self.shared.state.lock().leader = member;
    }

    /// Keeps this many log entries for those who resume.
    pub(crate) fn keep(&self, entries: usize) {
        let state = &mut *self.shared.state.lock();
        state.kept = entries;
        state.trim();
    }

    /// Applies a command as the leader does.
    pub(crate) fn apply(&self, command: Command) -> Outcome {
        self.shared.apply(command)
    }

    /// Tells watchers of a change that the directory does not know of.
    pub(crate) fn tell(&self, change: DirectoryChange) {
        let state = &mut *self.shared.state.lock();
        state.index += 1;
        state.log.push_back((state.index, vec![change]));
        self.shared.applied.send_replace(state.index);
    }

    /// The directory as it is, and its log index.
    pub(crate) fn directory(&self) -> (u64, Directory) {
        let state = self.shared.state.lock();
        (state.index, Directory::restore(&state.directory.snapshot()[..]).unwrap())
    }
}

impl State {
    fn trim(&mut self) {
        while self.log.len() > self.kept {
            self.log.pop_front();
        }
    }

    /// The changes after `index`, or `None` if not all of them are kept. Entries that changed nothing are not told.
    fn since(&self, index: u64) -> Option<Vec<WatchItem>> {
        let kept_from = self.log.front().map_or(self.index, |(first, _)| first - 1);
        let told = self.log.iter().filter(|(at, changes)| *at > index && !changes.is_empty());
        let item = |(index, changes): &(u64, Vec<_>)| WatchItem::Changes { index: *index, changes: changes.clone() };
        (index >= kept_from).then(|| told.map(item).collect())
    }
}

impl Shared {
    fn apply(&self, command: Command) -> Outcome {
        let state = &mut *self.state.lock();
        let applied = state.directory.apply(command);
        state.index += 1;
        state.log.push_back((state.index, applied.changes));
        state.trim();
        self.applied.send_replace(state.index);
        applied.outcome
    }

    /// Applies it if `member` leads.
    fn write<T>(&self, member: usize, command: Command, done: impl FnOnce(Outcome) -> T) -> Result<Reply<T>, Refusal> {
        let leader = self.state.lock().leader;
        if leader != Some(member) {
            self.redirected.send_modify(|times| *times += 1);
            let wrong = self.knobs.borrow().hints_wrong.then(|| (member + 1) % self.addrs.len());
            return Ok(Reply::NotLeader { leader: wrong.or(leader).map(|leader| self.addrs[leader]) });
        }
        Ok(match self.apply(command) {
            Outcome::Refused(reason) => Reply::Refused(reason),
            Outcome::Conflict(conflict) => Reply::Conflict(conflict),
            outcome => Reply::Done(done(outcome)),
        })
    }

    async fn watch(&self, request: WatchRequest, mut to: Publisher<WatchItem>) -> Result<(), PublishError> {
        let _watching = Watching::begin(&self.watching);
        let resumable = request.resume.filter(|index| self.state.lock().since(*index).is_some());
        let mut at = match resumable {
            Some(index) => {
                to.publish(&WatchItem::Resumed).await?;
                index
            }
            None => self.snapshot(&mut to).await?,
        };
        let mut applied = self.applied.subscribe();
        loop {
            self.knobs.subscribe().wait_for(|knobs| !knobs.changes_held).await.unwrap();
            applied.mark_unchanged();
            let (items, index) = {
                let state = self.state.lock();
                (state.since(at), state.index)
            };
            if request.filter.is_some()
                && self.knobs.send_if_modified(|knobs| std::mem::take(&mut knobs.filter_outgrown))
            {
                return to.publish(&WatchItem::CutOff(CutOff::Filter)).await;
            }
            let Some(items) = items else {
                return to.publish(&WatchItem::CutOff(CutOff::Lagged { entries_max: 0 })).await;
            };
            for item in items {
                to.publish(&item).await?;
            }
            at = index;
            // Pending changes are told at once: this returns an error only when the time is over.
            if tokio::time::timeout(WatchItem::HEARTBEAT_EVERY, applied.changed()).await.is_err() {
                to.publish(&WatchItem::Heartbeat { index: at, at: LogTime::ZERO }).await?;
            }
        }
    }

    async fn snapshot(&self, to: &mut Publisher<WatchItem>) -> Result<u64, PublishError> {
        let (index, directory) = {
            let mut state = self.state.lock();
            (state.index, state.directory.freeze())
        };
        to.publish(&WatchItem::SnapshotBegin { index, roster: directory.roster().clone() }).await?;
        to.publish(&WatchItem::SnapshotAccounts(directory.accounts().as_changes().collect())).await?;
        for blocks in BlockList::pieces(directory.into_blocks()) {
            to.publish(&WatchItem::SnapshotBlocks(blocks)).await?;
        }
        self.knobs.subscribe().wait_for(|knobs| !knobs.snapshots_held).await.unwrap();
        to.publish(&WatchItem::SnapshotEnd).await?;
        Ok(index)
    }
}

/// Counts a watch while it lives.
struct Watching<'a>(&'a watch::Sender<usize>);

impl<'a> Watching<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn routes(member: usize, shared: &Arc<Shared>) -> Routes {
    let at = LogTime::ZERO;
    let granted = |outcome| match outcome {
        Outcome::Granted(grants) => grants,
        other => panic!("grants expected, got {other:?}"),
    };
    let routes = Routes::new();
    let state = Arc::clone(shared);
    let routes = routes.rpc::<method::Join, _, _>(NODES, move |_, request| {
        let joined = |outcome| Joined { grants: granted(outcome), lease: Duration::from_secs(2) };
        std::future::ready(state.write(member, Command::Join { at, node: request.node }, joined))
    });
    let state = Arc::clone(shared);
    let routes = routes.rpc::<method::PutEndpoint, _, _>(NODES, move |_, request| {
        std::future::ready(state.write(member, Command::PutEndpoint { at, endpoint: request.endpoint }, granted))
    });
    let state = Arc::clone(shared);
    let routes = routes.rpc::<method::Report, _, _>(NODES, move |_, request| {
        let acks = |outcome| match outcome {
            Outcome::Reports(acks) => acks,
            other => panic!("acks expected, got {other:?}"),
        };
        std::future::ready(state.write(member, Command::Reports { at, reports: request.reports }, acks))
    });
    let state = Arc::clone(shared);
    let routes = routes.rpc::<method::Lookup, _, _>(READERS, move |_, request| {
        let state = state.state.lock();
        let holders = &state.directory.roster().holders;
        let matches = state.directory.leading(&request.prefix).into_iter();
        let matches = matches.map(|m| HolderMatch { grant: holders[&m.holder].clone(), blocks: m.blocks }).collect();
        std::future::ready(Ok(LookupResponse { applied: state.index, matches }))
    });
    let state = Arc::clone(shared);
    let routes = routes.rpc::<method::Roster, _, _>(READERS, move |_, _| {
        let state = state.state.lock();
        std::future::ready(Ok(RosterResponse { applied: state.index, roster: state.directory.roster().clone() }))
    });
    let state = Arc::clone(shared);
    routes.subscription::<method::Watch, _, _>(READERS, move |_, request, publisher| {
        let state = Arc::clone(&state);
        async move {
            // An error means that the follower is gone.
            let _ = state.watch(request, publisher).await;
            Ok(())
        }
    })
}

fn bind(ca: &Ca, role: Role, name: &str) -> Fabric {
    let issued = ca.issue(role.as_str(), name, 1).unwrap();
    let identity = Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem()).unwrap();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    Fabric::bind(loopback, Profile::Control, &identity, Metrics::register(&Registry::new())).unwrap()
}

pub(crate) fn node(id: &str, incarnation: u64) -> NodeSpec {
    NodeSpec {
        id: id.parse().unwrap(),
        incarnation: Incarnation::new(incarnation),
        fabric: "127.0.0.1:7410".parse().unwrap(),
        bulk: "127.0.0.1:7412".parse().unwrap(),
        capacity: [(Tier::Host, ByteSize::from_mib(64))].into(),
        labels: BTreeMap::new(),
    }
}

/// A follower's metrics, with the registry to read them from.
pub(crate) struct Counters(Registry);

pub(crate) fn metrics() -> (FollowerMetrics, Counters) {
    let registry = Registry::new();
    (FollowerMetrics::register(&registry), Counters(registry))
}

impl Counters {
    pub(crate) fn snapshots(&self) -> u64 {
        self.count("weft_follower_snapshots_total", None)
    }

    pub(crate) fn ends(&self, reason: &str) -> u64 {
        self.count("weft_follower_watch_ends_total", Some(reason))
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.count("weft_follower_evicted_blocks_total", None)
    }

    pub(crate) fn index_bytes(&self) -> u64 {
        let families = self.0.gather();
        let family = families.iter().find(|family| family.name() == "weft_follower_index_bytes").unwrap();
        family.get_metric()[0].get_gauge().get_value() as u64
    }

    fn count(&self, name: &str, label: Option<&str>) -> u64 {
        let families = self.0.gather();
        let series = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let named =
            series.filter(|metric| label.is_none_or(|label| metric.get_label().iter().any(|l| l.value() == label)));
        named.map(|metric| metric.get_counter().get_value() as u64).sum()
    }
}
