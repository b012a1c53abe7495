//! The world: members on disks that crash, nodes and a router, on a network with weather, in virtual time.

mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{sleep, timeout};
use weft_metadata::Config;
use weft_metadata::testing::{Disk, Member};
use weft_metadata_client::{Follower, FollowerMetrics, MetadataClient};
use weft_metadata_proto::v1::{LookupRequest, method};
use weft_service::config::IdentityFiles;
use weft_transport::memory::Network;
use weft_transport::{Fabric, Peer, Target};
use weft_types::{ByteSize, IndexKey, MemberId, Role, ShardId};

use self::membership::Membership;
use crate::accounts::Accounts;
use crate::chronicle::Chronicle;
use crate::invariants::the_index_equals_the_holdings_once_quiet::Holdings;
use crate::invariants::{self, Invariants, Witness};
use crate::node::{Node, Surroundings};
use crate::weather::{Climate, Weather};

/// How long the world may take to come to rest once nothing is broken any more: elections, leases and retries included.
const REST_WITHIN: Duration = Duration::from_secs(30);

/// Looks in a row, one each 50 ms, at which nobody had anything to say: longer than a lease, after which a node that was taken
/// for dead has heard of it.
const QUIET_LOOKS: usize = 60;

/// How long a change of the group may take on top: one to go and the same to come back, with a snapshot.
const CHANGED_WITHIN: Duration = Duration::from_secs(30);

/// Members that may join those of the beginning.
const SPARE_MEMBERS: u64 = 2;

/// Blocks that there are, and prefixes made of them.
const BLOCKS: usize = 120;
const PREFIX_BLOCKS: usize = 6;

/// Operators, who ask for things at the same time.
const OPERATORS: u8 = 3;

/// Guards that a twin switches off, to see the test fail without them.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// Disks keep what they said they had synced.
    pub disks_sync: bool,
    /// Nodes send again what was not acknowledged.
    pub retransmit: bool,
    /// Nodes compare what they hold with what is listed, after a loss and on a timer.
    pub compare: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { disks_sync: true, retransmit: true, compare: true }
    }
}

/// One member over all its lives.
#[derive(Debug)]
struct Seat {
    addr: SocketAddr,
    disk: Disk,
    place: Place,
    alive: Option<(Member, Witness)>,
}

/// Whether a member is, or is to be, part of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    In,
    Out,
}

/// A router: nothing but a follower.
#[derive(Debug)]
struct Router {
    fabric: Fabric,
    follower: Follower,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: ChaCha8Rng,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) weather: Arc<Weather>,
    invariants: Arc<Invariants>,
    network: Network,
    seats: BTreeMap<u64, Seat>,
    /// Members of the beginning.
    founders: u64,
    membership: Membership,
    pub(crate) nodes: Vec<Node>,
    accounts: Accounts,
    guards: Guards,
    router: Option<Router>,
    pub(crate) blocks: Vec<IndexKey>,
    prefixes: Vec<Vec<IndexKey>>,
    entries_a_snapshot: u64,
    /// Engines that ever attached: each has a later incarnation than all before.
    pub(crate) engine_lives: u64,
}

fn addr(host: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, host), 7400).into()
}

fn peer(role: Role, name: &str) -> Peer {
    Peer { cluster: "sim".parse().expect("a name"), role, name: name.parse().expect("a name") }
}

impl World {
    pub(crate) async fn new(seed: u64, guards: Guards, chronicle: Arc<Chronicle>) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let climate = Climate {
            lost: [0.0, 0.01, 0.1][random.random_range(0..3)],
            doubled: [0.0, 0.05, 0.2][random.random_range(0..3)],
            straggling: [0.0, 0.02, 0.1][random.random_range(0..3)],
        };
        let members = [3, 3, 3, 5][random.random_range(0..4)];
        let nodes = random.random_range(2..5);
        let entries_a_snapshot = [40, 150, 100_000][random.random_range(0..3)];
        chronicle
            .note(format_args!("seed {seed}: {members} members, {nodes} nodes, {climate:?}, {entries_a_snapshot}"));
        let weather = Arc::new(Weather::new(random.random(), climate));
        let network = Network::new(weather.clone());
        let invariants = Arc::new(Invariants::new(chronicle.clone()));
        let blocks: Vec<IndexKey> = (0..BLOCKS).map(|_| IndexKey::from_bytes(random.random())).collect();
        let prefixes = blocks.chunks(PREFIX_BLOCKS).map(<[IndexKey]>::to_vec).collect();
        let seat = |id: u64| {
            let place = if id <= members { Place::In } else { Place::Out };
            let addr = addr(u8::try_from(id).expect("few members"));
            (id, Seat { addr, disk: Disk::default(), place, alive: None })
        };
        let seats: BTreeMap<u64, Seat> = (1..=members + SPARE_MEMBERS).map(seat).collect();
        let surroundings = Surroundings {
            network: network.clone(),
            members: seats.values().map(|seat| seat.addr).collect(),
            chronicle: chronicle.clone(),
            invariants: invariants.clone(),
            guards,
        };
        let node = |number: u8| {
            let id = format!("node-{number}").parse().expect("a name");
            Node::new(id, addr(100 + number), surroundings.clone())
        };
        let nodes = (0..nodes).map(node).collect();
        let operator = |number: u8| {
            let peer = peer(Role::Admin, &format!("operator-{number}"));
            (peer.name.clone(), network.bind(addr(150 + number), peer))
        };
        let operators = (0..OPERATORS).map(operator).collect();
        let accounts = Accounts::new(operators, &surroundings.members, &mut random, &surroundings.chronicle);
        let fabric = network.bind(addr(140), peer(Role::Admin, "group"));
        let client = MetadataClient::new(fabric, surroundings.members.clone()).with_jitter(random.random());
        let mut world = Self {
            random,
            chronicle,
            weather,
            invariants,
            network,
            seats,
            founders: members,
            membership: Membership::new(client),
            nodes,
            accounts,
            guards,
            router: None,
            blocks,
            prefixes,
            entries_a_snapshot,
            engine_lives: 0,
        };
        for id in world.member_ids() {
            world.start_member(id).await;
        }
        world.nodes.iter_mut().for_each(Node::start);
        world.start_router();
        world
    }

    /// Members that are, or are to be, in the group.
    pub(crate) fn member_ids(&self) -> Vec<u64> {
        self.seats.iter().filter(|(_, seat)| seat.place == Place::In).map(|(id, _)| *id).collect()
    }

    /// A member that is in the group, and is not up.
    pub(crate) fn may_start(&self, id: u64) -> bool {
        self.seats.get(&id).is_some_and(|seat| seat.place == Place::In && seat.alive.is_none())
    }

    /// Members that are up.
    pub(crate) fn members_up(&self) -> Vec<u64> {
        self.seats.iter().filter(|(_, seat)| seat.alive.is_some()).map(|(id, _)| *id).collect()
    }

    /// Something was committed.
    fn has_formed(&self) -> bool {
        self.seats.values().filter_map(|seat| seat.alive.as_ref()).any(|(member, _)| member.standing().applied > 0)
    }

    /// Who believes to lead the latest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let standing = |(id, seat): (&u64, &Seat)| seat.alive.as_ref().map(|(member, _)| (member.standing(), *id));
        let leads = self.seats.iter().filter_map(standing).filter(|(standing, _)| standing.leads);
        leads.max_by_key(|(standing, _)| standing.term).map(|(_, id)| id)
    }

    fn config(&self, id: u64) -> Config {
        // As those knew who wrote it: who joined later is not in it, but for the member itself.
        let known = self.seats.iter().filter(|(other, _)| **other <= self.founders || **other == id);
        let members = known.map(|(id, seat)| (MemberId::new(*id), seat.addr)).collect();
        let identity = IdentityFiles { cert: "/".into(), key: "/".into(), ca: "/".into() };
        let mut config = Config::new(MemberId::new(id), members, "/".into(), identity);
        config.wal.segment = ByteSize::from_bytes(16 << 10);
        config.wal.memory = ByteSize::from_bytes(8 << 10);
        config.snapshot.entries = self.entries_a_snapshot;
        config.snapshot.keep = ByteSize::from_bytes(self.entries_a_snapshot * 32);
        config
    }

    /// Starts a member on what its disk holds; refused is violated.
    pub(crate) async fn start_member(&mut self, id: u64) {
        let config = self.config(id);
        let fabric = self.network.bind(self.seats[&id].addr, peer(Role::Metadata, &id.to_string()));
        let witness = Witness::new(id, self.invariants.clone());
        self.invariants.restarted(id);
        let seat = self.seats.get_mut(&id).expect("a member");
        match Member::start(&config, fabric, &seat.disk, witness.clone()).await {
            Ok(member) => seat.alive = Some((member, witness)),
            // A disk that lied is found out, mostly.
            Err(error) if !self.guards.disks_sync => {
                self.chronicle.note(format_args!("member {id} refuses its disk: {error}"));
            }
            Err(error) => {
                self.chronicle.violated("a disk that lost power is recovered", format_args!("member {id}: {error}"));
            }
        }
    }

    /// From now on disks do what the guards allow them.
    pub(crate) fn turn(&self) {
        if !self.guards.disks_sync {
            self.seats.values().for_each(|seat| seat.disk.lie_about_syncs());
        }
    }

    /// The power of a member goes, in the midst of what it writes next, or at once.
    pub(crate) async fn crash_member(&mut self, id: u64) {
        let operations = self.random.random_range(0..8);
        let after = Duration::from_millis(self.random.random_range(0..30));
        let seat = self.seats.get_mut(&id).expect("a member");
        let Some((member, witness)) = seat.alive.take() else { return };
        seat.disk.cut_power_after(operations);
        sleep(after).await;
        self.network.cut_off(seat.addr);
        witness.leave();
        drop(member);
        seat.disk = seat.disk.after_crash(&mut self.random);
    }

    /// A member is stopped as an operator would, and nothing of what it wrote is lost.
    pub(crate) async fn stop_member(&mut self, id: u64) {
        let seat = self.seats.get_mut(&id).expect("a member");
        let Some((member, witness)) = seat.alive.take() else { return };
        member.stop().await;
        witness.leave();
    }

    pub(crate) fn start_router(&mut self) {
        let fabric = self.network.bind(addr(200), peer(Role::Router, "router"));
        let members = self.seats.values().map(|seat| seat.addr).collect();
        let client = MetadataClient::new(fabric.clone(), members).with_jitter(self.random.random());
        let metrics = FollowerMetrics::register(&prometheus::Registry::new());
        self.router = Some(Router { fabric, follower: client.follow(None, metrics) });
    }

    /// Where everybody is.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        let members = self.seats.values().map(|seat| seat.addr);
        let nodes = self.nodes.iter().map(|node| node.addr);
        members.chain(nodes).chain(self.accounts.addrs()).chain([addr(200), addr(140)]).collect()
    }

    /// Operators ask for things.
    pub(crate) fn operate(&mut self) {
        for words in self.accounts.ask(&mut self.random) {
            self.chronicle.note(words);
        }
    }

    /// Somebody asks a member for a prefix.
    pub(crate) fn look_up(&mut self) {
        let at = self.random.random_range(0..self.nodes.len());
        let prefix = self.prefixes[self.random.random_range(0..self.prefixes.len())].clone();
        let member = self.random.random_range(0..self.seats.len());
        let member = *self.seats.keys().nth(member).expect("counted");
        let fabric = self.nodes[at].fabric().or_else(|| self.router.as_ref().map(|router| router.fabric.clone()));
        let Some(fabric) = fabric else { return };
        let target = Target { addr: self.seats[&member].addr, role: Role::Metadata, name: None };
        let invariants = self.invariants.clone();
        tokio::spawn(async move {
            let request = LookupRequest { shard: ShardId::new(0), prefix };
            // One that is not answered says nothing.
            if let Ok(answer) = fabric.call::<method::Lookup>(&target, &request, Duration::from_millis(300)).await {
                let grants: Vec<_> = answer.matches.into_iter().map(|found| found.grant).collect();
                invariants.answered(answer.applied, &grants);
            }
        });
    }

    /// Lets time pass, and looks at the members now and then.
    pub(crate) async fn pass(&self, span: Duration) {
        let until = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
            for (id, seat) in &self.seats {
                if let Some((member, _)) = &seat.alive {
                    self.invariants.stands(*id, member.standing());
                }
            }
        }
    }

    /// Mends everything and checks what must hold then.
    pub(crate) async fn rest(&mut self) {
        self.chronicle.note("everything is mended");
        self.weather.heal();
        self.weather.set(Climate::CALM);
        for id in self.member_ids() {
            let seat = &self.seats[&id];
            let unwell = seat.alive.as_ref().is_some_and(|(member, _)| !member.standing().well);
            if unwell {
                self.crash_member(id).await;
            }
            if self.may_start(id) {
                self.start_member(id).await;
            }
        }
        let changed = tokio::time::Instant::now() + CHANGED_WITHIN;
        while !self.membership.is_done() {
            if tokio::time::Instant::now() > changed {
                return self.chronicle.violated(
                    "the group answers once mended",
                    format_args!("{}; {}", self.membership.left(), self.unrest()),
                );
            }
            self.advance().await;
            sleep(Duration::from_millis(100)).await;
        }
        self.nodes.iter_mut().filter(|node| !node.is_up()).for_each(Node::start);
        if self.router.is_none() {
            self.start_router();
        }
        let mut quiet = 0;
        let rested = eventually(REST_WITHIN, Duration::from_millis(50), || {
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            quiet > QUIET_LOOKS
        });
        let rested = rested.await;
        if !rested {
            self.chronicle.violated("the group answers once mended", self.unrest());
            return;
        }
        self.check().await;
    }

    fn is_quiet(&self) -> bool {
        let Some(applied) = self.applied() else { return false };
        let followed = self.router.as_ref().is_some_and(|router| router.follower.log_index() == Some(applied));
        followed && self.nodes.iter().all(Node::is_quiet) && self.accounts.is_quiet() && self.swept()
    }

    /// Index that every member has applied, if they are at one.
    fn applied(&self) -> Option<u64> {
        self.leader()?;
        let members = self.seats.values().filter(|seat| seat.place == Place::In);
        let mut applied = members.map(|seat| Some(seat.alive.as_ref()?.0.standing().applied));
        let first = applied.next()??;
        applied.all(|applied| applied == Some(first)).then_some(first)
    }

    fn swept(&self) -> bool {
        let due = |seat: &Seat| seat.alive.as_ref().is_none_or(|(member, _)| member.directory(|it, _| it.sweep_due()));
        !self.seats.values().filter(|seat| seat.place == Place::In).any(due)
    }

    fn unrest(&self) -> String {
        let standings: Vec<_> = self
            .seats
            .iter()
            .map(|(id, seat)| (id, seat.alive.as_ref().map(|(member, _)| (member.standing(), member.voters()))))
            .collect();
        let nodes: Vec<_> = self.nodes.iter().filter(|node| !node.is_quiet()).map(|node| node.id.to_string()).collect();
        let followed = self.router.as_ref().map(|router| router.follower.log_index());
        format!(
            "after {REST_WITHIN:?}: {standings:?}, not quiet {nodes:?}, followed to {followed:?}, swept {}",
            self.swept()
        )
    }

    async fn check(&self) {
        use invariants::{
            accounts_are_linearisable, divergence_returns_to_zero_once_quiet, no_acknowledged_fact_is_lost,
            replicas_apply_the_same, the_audit_names_each_request_once, the_follower_equals_the_directory_once_quiet,
            the_group_is_as_it_was_changed, the_index_equals_the_holdings_once_quiet,
        };
        let placed = || self.seats.iter().filter(|(_, seat)| seat.place == Place::In);
        let members = || placed().filter_map(|(id, seat)| Some((*id, &seat.alive.as_ref()?.0)));
        replicas_apply_the_same::compare(members(), &self.chronicle);
        let expected: BTreeSet<u64> = self.member_ids().into_iter().collect();
        self.accounts.record(|record| {
            accounts_are_linearisable::check(record, members(), &self.chronicle);
            for (id, member) in members() {
                the_audit_names_each_request_once::check(id, member, record, &self.chronicle);
            }
        });
        let mut held = Holdings::new();
        self.nodes.iter().for_each(|node| node.held(&mut held));
        for (id, member) in members() {
            the_group_is_as_it_was_changed::check(id, member, &expected, &self.chronicle);
            the_index_equals_the_holdings_once_quiet::check(id, member, &self.blocks, &held, &self.chronicle);
            self.invariants.acknowledged(|acknowledged| acknowledged.check(id, member, &self.chronicle));
            if let Some(router) = &self.router {
                let prefixes: Vec<_> =
                    self.prefixes.iter().cloned().chain(self.blocks.iter().map(|block| vec![*block])).collect();
                the_follower_equals_the_directory_once_quiet::check(
                    &router.follower,
                    member,
                    &prefixes,
                    &self.chronicle,
                );
            }
        }
        for node in &self.nodes {
            divergence_returns_to_zero_once_quiet::check(node, &self.chronicle);
            if let Err(how) = node.probe().await {
                self.chronicle.violated(no_acknowledged_fact_is_lost::NAME, how);
            }
        }
    }
}

impl Drop for World {
    /// What a member serves holds on to the network, and the network to what is served on it, until somebody is cut off.
    fn drop(&mut self) {
        self.addrs().into_iter().for_each(|addr| self.network.cut_off(addr));
    }
}

/// Looks every `pause`, at most so long, until something holds.
async fn eventually(within: Duration, pause: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !holds() {
            sleep(pause).await;
        }
    };
    timeout(within, waiting).await.is_ok()
}
