//! Warm start: a member with five million blocks and a log tail of 64 MiB is killed and started again. How long until it answers
//! its first lookup, and rightly?
//!
//! The other members are dead too: no leader helps, no election is waited for, and the answer comes from the member's own
//! snapshot and log. The clock starts before the process does. The limit is one sequential read of the member's files, with the
//! page cache warm, as a kill leaves it, and cold, as after a boot.

mod files;
mod fill;
mod sockets;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use weft_metadata_proto::v1::{LookupRequest, LookupResponse, method};
use weft_transport::{Fabric, Target};
use weft_types::{Role, ShardId};

use self::files::Files;
use self::fill::{Fill, Probe};
use super::form::Bar;
use super::latencies::Latencies;
use super::measure::Effort;
use super::members::{MEMBERS, Members, PATIENCE};
use super::{Measured, params};

/// Starts with a warm page cache, and with a cold one.
const STARTS: usize = 5;
/// Between two looks whether the member listens: small beside what is measured.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest wait for one answer. A member that listens and is not ready to answer is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// How much there is to read.
pub(crate) struct Size {
    /// In the directory.
    pub(crate) blocks: u64,
    /// Of log records, behind the newest snapshot.
    pub(crate) tail_bytes: u64,
}

impl From<Effort> for Size {
    fn from(effort: Effort) -> Self {
        match effort.quick {
            true => Self { blocks: 1_000_000, tail_bytes: 16 << 20 },
            false => Self { blocks: 5_000_000, tail_bytes: 64 << 20 },
        }
    }
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let size = Size::from(effort);
    // A huge directory, nodes that do not keep alive, and no snapshot until it is wanted.
    let mut members = Members::start(&settings(&size, "16GiB")).await?;
    let measured = run(&mut members, &size).await;
    members.stop().await;
    measured
}

/// `snapshot_bytes`: so much of the log calls for a snapshot.
fn settings(size: &Size, snapshot_bytes: &str) -> serde_json::Map<String, serde_json::Value> {
    params(json!({
        "node_lease": "1h", "blocks_max": 2 * size.blocks,
        "snapshot": {"bytes": snapshot_bytes, "entries": 1_000_000, "keep": "0B"},
    }))
}

async fn run(members: &mut Members, size: &Size) -> anyhow::Result<Measured> {
    let operator = members.caller(Role::Admin, "operator")?;
    let mut fill = Fill::start(members, size.blocks).await?;
    members.reconfigure(&settings(size, "1MiB")).await?;
    snapshotted(members, &operator).await?;
    members.reconfigure(&settings(size, "16GiB")).await?;
    let logged = |counters: super::members::Counters| counters.get("weft_metadata_log_bytes_total") as u64;
    let before = logged(members.counters(0).await?);
    while logged(members.counters(0).await?) - before < size.tail_bytes {
        fill.advance().await?;
    }
    // A member knows of an entry that it is committed by what follows it.
    fill.end().await?;
    let settled = members.settled(&operator).await?;
    ensure!(settled[0].blocks == size.blocks, "{} blocks are listed, not {}", settled[0].blocks, size.blocks);
    for member in 0..MEMBERS {
        members.kill(member).await?;
    }

    let probes = fill.probes();
    let data = members.data(0);
    let (mut warm, mut cold) = (Rounds::default(), Rounds::default());
    for _ in 0..STARTS {
        warm.read.add(read(&data, false)?.1);
        start(members, &probes, &mut warm).await?;
        cold.read.add(read(&data, true)?.1);
        block_in_place(|| Files::of(&data)?.evict())?;
        start(members, &probes, &mut cold).await?;
    }
    let (files, _) = read(&data, false)?;
    let bars = vec![
        warm.bar("first_lookup_p50", 0.5),
        Bar::value("first_lookup_max", warm.lookup.quantile(1.0), "s").at_most(1.0),
        Bar::value("first_lookup_cpu_p50", warm.cpu.quantile(0.5), "s"),
        cold.bar("first_lookup_cold_p50", 0.5),
        Bar::value("first_lookup_cold_max", cold.lookup.quantile(1.0), "s"),
        Bar::value("wrong_answers", (warm.wrong + cold.wrong) as f64, "lookups").at_most(0.0),
    ];
    Ok(Measured {
        params: params(json!({
            "blocks": size.blocks, "snapshot_bytes": files.bytes_of("snapshot-"), "log_bytes": files.bytes_of("log-"),
            "starts": STARTS, "lookups_checked": probes.len(), "leader": "none: the other members are dead",
        })),
        bars,
    })
}

/// Waits until every member has a snapshot of all that it has applied.
async fn snapshotted(members: &Members, operator: &Fabric) -> anyhow::Result<()> {
    let began = Instant::now();
    let covers = |status: &weft_metadata_proto::v1::StatusResponse| {
        // Another leader's blank entry may have come after it.
        status.snapshot.is_some_and(|snapshot| snapshot + 8 > status.applied)
    };
    while !members.settled(operator).await?.iter().all(covers) {
        ensure!(began.elapsed() < 2 * PATIENCE, "the members write no snapshot");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Times of starts, and of reading the same files.
#[derive(Default)]
struct Rounds {
    lookup: Latencies,
    read: Latencies,
    /// Processor time of the member.
    cpu: Latencies,
    wrong: usize,
}

impl Rounds {
    fn bar(&self, id: &'static str, share: f64) -> Bar {
        Bar::value(id, self.lookup.quantile(share), "s").against(self.read.quantile(0.5))
    }
}

fn read(data: &Path, cold: bool) -> anyhow::Result<(Files, Duration)> {
    block_in_place(|| {
        let files = Files::of(data)?;
        if cold {
            files.evict()?;
        }
        let took = files.read()?;
        Ok((files, took))
    })
}

/// Starts the first member, waits for its first right answer, looks at the other answers, and kills it.
async fn start(members: &mut Members, probes: &[Probe], rounds: &mut Rounds) -> anyhow::Result<()> {
    // One that never met it: no connection to its former process.
    let (router, target) = (members.caller(Role::Router, "router")?, members.target(0));
    let began = Instant::now();
    members.spawn(0)?;
    while !sockets::listens(target.addr)? {
        ensure!(began.elapsed() < PATIENCE, "the member does not listen");
        sleep(PAUSE).await;
    }
    loop {
        match lookup(&router, &target, &probes[0]).await {
            Ok(answer) if probes[0].is_answered_by(&answer) => break,
            answer => ensure!(began.elapsed() < PATIENCE, "no right answer: the last was {answer:?}"),
        }
        sleep(PAUSE).await;
    }
    rounds.lookup.add(began.elapsed());
    rounds.cpu.add(Duration::from_secs_f64(members.cpu_seconds(0)?));
    for probe in probes {
        let answer = lookup(&router, &target, probe).await.context("the member stopped answering")?;
        rounds.wrong += usize::from(!probe.is_answered_by(&answer));
    }
    members.kill(0).await
}

async fn lookup(router: &Fabric, member: &Target, probe: &Probe) -> anyhow::Result<LookupResponse> {
    let request = LookupRequest { shard: ShardId::new(0), prefix: probe.prefix.clone() };
    Ok(router.call::<method::Lookup>(member, &request, ANSWER_WITHIN).await?)
}
