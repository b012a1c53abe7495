//! Failover: the leader of three members is killed over and over under load. How long until a write is acknowledged again, and
//! is everything there that was?
//!
//! ```text
//!  nodes ───── reports ──────────────────────► leader ──► log, fsync ──► acknowledged     3 processes, mutual TLS
//!  operators ─ tenants, quotas, leases ──────►   ╳  SIGKILL, started again, 20 times
//!  restarted nodes' former selves ─ reports ─►   always refused
//! ```
//! A time begins before the signal is sent and ends with the first acknowledgement of a write that was begun after the process was
//! gone. Its limit is what the configured timeouts come to: a leader is given up after `election_max`, and the next one calls
//! its election within as much again. In the end, everything acknowledged is looked for at every member.

mod journal;
mod operators;
mod promises;
mod reports;
mod stale;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weft_metadata::RaftConfig;
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::{LeasesRequest, TenantsRequest, method};
use weft_transport::Fabric;
use weft_types::{Operated, OperatorAction, Role, ShardId};

use self::journal::Journal;
use self::operators::Operator;
use self::promises::{Lost, Promises};
use self::reports::Reporting;
use self::stale::Stale;
use super::form::Bar;
use super::latencies::Latencies;
use super::measure::Effort;
use super::members::{MEMBERS, Members, PATIENCE};
use super::{Measured, params};

/// Nodes that report.
const NODES: usize = 8;
/// Clients that ask for tenants, quotas and leases.
const OPERATORS: usize = 4;
/// Kills.
const KILLS: usize = 20;
/// And of a quick run.
const KILLS_QUICK: usize = 5;
/// How long the group is left alone between two kills, in milliseconds: any phase of its timers.
const CALM_MS: std::ops::Range<u64> = 300..1_300;
/// Longest wait for an acknowledgement: many times what is hoped for, so that a long outage is measured, not cut off.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Measured> {
    // Nodes here do not keep alive.
    let mut members = Members::start(&params(json!({"node_lease": "1h"}))).await?;
    let measured = run(&mut members, if effort.quick { KILLS_QUICK } else { KILLS }).await;
    members.stop().await;
    measured
}

async fn run(members: &mut Members, kills: usize) -> anyhow::Result<Measured> {
    let operator = members.caller(Role::Admin, "observer")?;
    let client = |role, name: String| anyhow::Ok(MetadataClient::new(members.caller(role, &name)?, members.addrs()));
    let journal = Arc::new(Journal::new(NODES + OPERATORS + 1));
    let stop = CancellationToken::new();
    let (mut reporting, mut operating) = (JoinSet::new(), JoinSet::new());
    for node in 0..NODES {
        let reports = Reporting::join(client(Role::Node, format!("node-{node}"))?, node).await?;
        reporting.spawn(reports.run(journal.clone(), stop.clone()));
    }
    for number in 0..OPERATORS {
        let caller = Operator::new(client(Role::Admin, format!("operator-{number}"))?, number);
        operating.spawn(caller.run(journal.clone(), NODES + number, stop.clone()));
    }
    let stale = Stale::start(client(Role::Node, stale::NAME.to_owned())?, stop.clone()).await?;

    let mut killing = Killing {
        operator: operator.clone(),
        probe: client(Role::Admin, "probe".to_owned())?,
        journal: journal.clone(),
        stale,
        dice: ChaCha8Rng::seed_from_u64(3),
        outages: Outages::default(),
    };
    for kill in 1..=kills {
        killing.once(members).await.with_context(|| format!("kill {kill}"))?;
    }
    stop.cancel();
    let Killing { stale, outages, .. } = killing;
    let tried = stale.end().await?;
    let mut promises = Promises::default();
    for operated in operating.join_all().await {
        promises.join(operated?);
    }
    let reports = reporting.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;

    let router = members.caller(Role::Router, "router")?;
    let statuses = members.settled(&operator).await?;
    let (mut lost, mut lost_blocks, mut found) = (Lost::default(), 0, 0);
    for (member, status) in statuses.iter().enumerate() {
        let of_member = account(members, &operator, member, &promises).await?;
        lost = lost.worst(of_member);
        lost_blocks = lost_blocks.max(reports.iter().map(|reports| reports.lost(status)).sum());
        found += tried.found(&router, members.target(member)).await?;
    }
    Ok(measured(kills, &outages, &journal, (lost, lost_blocks), (&tried, found)))
}

fn measured(
    kills: usize,
    outages: &Outages,
    journal: &Journal,
    (lost, lost_blocks): (Lost, u64),
    (tried, found): (&stale::Tried, u64),
) -> Measured {
    let RaftConfig { election_min, election_max, .. } = RaftConfig::default();
    let timeouts = (election_max + election_max).as_secs_f64();
    let seconds = |id, times: &Latencies, share| Bar::value(id, times.quantile(share), "s");
    let count = |id, count: u64, unit| Bar::value(id, count as f64, unit);
    let bars = vec![
        seconds("next_write_p50", &outages.first, 0.5).against(timeouts),
        seconds("next_write_max_vs_timeouts", &outages.first, 1.0).against(timeouts),
        seconds("next_write_max", &outages.first, 1.0).at_most(2.0),
        seconds("every_client_p50", &outages.every, 0.5).against(timeouts),
        seconds("every_client_max", &outages.every, 1.0),
        seconds("member_back_p50", &outages.back, 0.5),
        count("writes", journal.writes(), "acks"),
        count("lost_tenants", lost.tenants, "tenants").at_most(0.0),
        count("lost_quotas", lost.quotas, "quotas").at_most(0.0),
        count("lost_leases", lost.leases, "leases").at_most(0.0),
        count("undone_releases", lost.releases, "leases").at_most(0.0),
        count("leases_granted_twice", lost.unasked, "leases").at_most(0.0),
        count("lost_blocks", lost_blocks, "blocks").at_most(0.0),
        count("stale_accepted", tried.accepted + found, "writes").at_most(0.0),
        count("stale_refused", tried.refused, "writes"),
    ];
    let params = params(json!({
        "members": MEMBERS, "kills": kills, "nodes": NODES, "changes_a_report": reports::CHANGES, "operators": OPERATORS,
        "heartbeat_ms": millis(RaftConfig::default().heartbeat),
        "election_ms": [millis(election_min), millis(election_max)],
    }));
    Measured { params, bars }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

struct Killing {
    operator: Fabric,
    probe: MetadataClient,
    journal: Arc<Journal>,
    stale: Stale,
    dice: ChaCha8Rng,
    outages: Outages,
}

/// One time a kill.
#[derive(Default)]
struct Outages {
    /// To the first write acknowledged.
    first: Latencies,
    /// Until every client has had one.
    every: Latencies,
    /// From the start of the killed member to its taking part.
    back: Latencies,
}

impl Killing {
    async fn once(&mut self, members: &mut Members) -> anyhow::Result<()> {
        sleep(Duration::from_millis(self.dice.random_range(CALM_MS))).await;
        let leader = members.leader(&self.operator).await?;
        let killed = Instant::now();
        members.kill(leader).await?;
        self.journal.begin(killed, Instant::now());
        let (probed, renewed) = tokio::join!(probe(&self.probe, &self.journal), self.stale.renew());
        probed.and(renewed)?;
        let outage = timeout(DEADLINE, self.journal.over()).await.context("a client had no acknowledgement")?;
        self.outages.first.add(outage.first);
        self.outages.every.add(outage.last);

        let restarted = Instant::now();
        members.restart(leader).await?;
        self.caught_up(members, leader).await?;
        self.outages.back.add(restarted.elapsed());
        Ok(())
    }

    /// Waits until the member has applied what the leader had when it was asked first.
    async fn caught_up(&self, members: &Members, member: usize) -> anyhow::Result<()> {
        let leader = members.leader(&self.operator).await?;
        let target = members.status(&self.operator, leader).await?.applied;
        let catching_up = async {
            // The first call may still go to the process that was killed, and fail.
            while members.status(&self.operator, member).await.map_or(0, |status| status.applied) < target {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, catching_up).await.context("a member that was started again does not catch up")
    }
}

/// A write that begins as soon as the leader is dead.
async fn probe(client: &MetadataClient, journal: &Journal) -> anyhow::Result<()> {
    let begun = Instant::now();
    let note = OperatorAction::Note { what: "leader killed".to_owned() };
    let done = client.operate(note, DEADLINE).await?;
    ensure!(done == Operated::Done, "a note was answered {done:?}");
    journal.acknowledged(NODES + OPERATORS, begun, Instant::now());
    Ok(())
}

/// What a member lacks of what was promised.
async fn account(members: &Members, operator: &Fabric, member: usize, promises: &Promises) -> anyhow::Result<Lost> {
    let (to, shard) = (members.target(member), ShardId::new(0));
    let tenants = operator.call::<method::Tenants>(&to, &TenantsRequest { shard }, PATIENCE).await?;
    let leases = operator.call::<method::Leases>(&to, &LeasesRequest { shard }, PATIENCE).await?;
    Ok(promises.lost(&tenants, &leases))
}
