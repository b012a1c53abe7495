//! Placement through Raft: how many changes of who-holds-what a group of three takes a second, and how fast it answers.
//!
//! ```text
//!  32 nodes ── reports of 4,096 changes ──► leader ──► log, fsync ──► acknowledged        3 processes, mutual TLS
//!  a router ── lookups, 2 a ms, beside echoes ──► every member in turn
//! ```
//! The set of blocks stays as large as it is: half of a report's changes store, half remove. The limit is the disk alone: one
//! thread that appends and syncs the same bytes three times. It does so a report at a time; and, for `updates_in_batches`, as
//! many bytes at a time as the leader did, which saves it the syncs that folding saves the group. Rounds of load and of the disk
//! alternate. All processes, the 32 nodes among them, share this machine's cores; no router follows the changes.
//!
//! # What waits for what
//! Under load every report waits for processors: three members and their nodes have the two of this machine to share, and each
//! report of 4,096 changes takes some 3 ms of them in all. `commit_p50_alone` is the same report where nothing else is on its
//! way: the chain of what must happen one after the other (sent, folded, sent on, synced at two members, applied).
//!
//! # Where the processors go
//! `perf record` of one quick run on two cores (AMD EPYC), with 0.17 s a million changes at a follower, 0.23 at the leader:
//!
//! | | follower | leader |
//! |---|--:|--:|
//! | the index and its digests: mostly waiting for memory | 53 % | 43 % |
//! | switching between tasks, threads and processes | 16 % | 13 % |
//! | QUIC, TLS and the kernel's network | 9 % | 13 % |
//! | copies, allocation and fresh pages | 9 % | 11 % |
//! | the log: encoding, checksums, the kernel's files | 4 % | 6 % |
//! | reports: encoding and decoding | 1 % | 3 % |
//! | openraft itself | 1 % | 1 % |
//! | the rest | 7 % | 10 % |

mod disk;
mod probe;
mod reporters;

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use weft_transport::Fabric;
use weft_types::Role;

use self::disk::Disk;
use self::probe::{Probe, Probed};
use self::reporters::{CHANGES, REPORTERS, Reporters, Round, WINDOW};
use super::form::Bar;
use super::latencies::Latencies;
use super::measure::Effort;
use super::members::{Counters, MEMBERS, Members, cpu_seconds};
use super::{Measured, params};

/// Lookups that are sent every millisecond, and one echo.
const LOOKUPS_A_MS: usize = 2;

/// Changes a second of which no two reports are on their way at once: one report each 40 ms.
const ALONE: f64 = 25.0 * CHANGES as f64;

/// Rounds and their times.
struct Schedule {
    /// With nothing else to do, lookups one after the other.
    quiet: Duration,
    rounds: usize,
    load: Duration,
    half_rounds: usize,
    half_load: Duration,
    /// With so few reports that none meets another.
    alone: Duration,
    disk: Duration,
}

impl From<Effort> for Schedule {
    fn from(effort: Effort) -> Self {
        let millis = Duration::from_millis;
        if effort.quick {
            let (load, half_load, alone) = (millis(2500), millis(1500), millis(1500));
            return Self { quiet: millis(500), rounds: 3, load, half_rounds: 2, half_load, alone, disk: millis(300) };
        }
        let (load, half_load, alone) = (millis(12_000), millis(5000), millis(10_000));
        Self { quiet: millis(3000), rounds: 5, load, half_rounds: 3, half_load, alone, disk: millis(1000) }
    }
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Measured> {
    // Nodes here do not keep alive: what they would send is nothing beside their reports.
    let settings = params(json!({"node_lease": "1h", "blocks_max": 4 * REPORTERS * WINDOW}));
    let members = Members::start(&settings).await?;
    let measured = run(&members, &Schedule::from(effort)).await;
    members.stop().await;
    measured
}

async fn run(members: &Members, schedule: &Schedule) -> anyhow::Result<Measured> {
    let operator = members.caller(Role::Admin, "operator")?;
    let mut bench = Bench {
        disk: Disk::new(&members.folder())?,
        reporters: Reporters::start(members).await?,
        members,
        leader: members.leader(&operator).await?,
        operator,
    };
    let mut probe = Probe::new(members, bench.reporters.rings())?;
    members.settled(&bench.operator).await?;

    let quiet = bench.quiet(&mut probe, schedule.quiet).await?;
    let mut full = Loaded::default();
    for _ in 0..schedule.rounds {
        bench.loaded(&mut full, &mut probe, (schedule.load, None), schedule.disk).await?;
    }
    let updates = median(&full.updates);
    let mut half = Loaded::default();
    for _ in 0..schedule.half_rounds {
        bench.loaded(&mut half, &mut probe, (schedule.half_load, Some(updates / 2.0)), schedule.disk).await?;
    }
    let mut alone = Loaded::default();
    bench.loaded(&mut alone, &mut probe, (schedule.alone, Some(ALONE)), schedule.disk).await?;
    bench.check().await?;

    let mut bars = vec![
        Bar::value("updates", updates.round(), "updates/s").against(median(&full.disk).round()).at_least(0.5),
        Bar::value("updates_in_batches", updates.round(), "updates/s").against(median(&full.disk_batches).round()),
        Bar::value("updates_a_second", updates.round(), "updates/s").at_least(1_000_000.0),
        Bar::value("half_load", median(&half.updates).round(), "updates/s"),
        half.commit("commit_p50_at_half", 0.5),
        half.commit("commit_p99_at_half", 0.99),
        full.commit("commit_p50_at_full", 0.5),
        alone.commit("commit_p50_alone", 0.5),
        Bar::value("cpu_leader", full.per_million(full.cpu[0]), "s/M updates"),
        Bar::value("cpu_follower", full.per_million(full.cpu[1]), "s/M updates"),
        Bar::value("cpu_reporters", full.per_million(full.cpu[2]), "s/M updates"),
    ];
    bars.extend(quiet.bars(["lookup_quiet_p50", "lookup_quiet_p99", "lookup_quiet_served"]));
    bars.extend(half.answered.bars(["lookup_half_p50", "lookup_half_p99", "lookup_half_served"]));
    bars.extend(full.answered.bars(["lookup_full_p50", "lookup_full_p99", "lookup_full_served"]));
    let batch = |loaded: &Loaded| median(&loaded.batches).round();
    Ok(Measured {
        params: params(json!({
            "members": MEMBERS, "nodes": REPORTERS, "changes_a_report": CHANGES, "blocks_a_node": WINDOW,
            "lookup_blocks": probe::PREFIX_BLOCKS, "lookups_a_second": 1000 * LOOKUPS_A_MS,
            "bytes_a_sync": batch(&full), "bytes_a_sync_at_half": batch(&half),
        })),
        bars,
    })
}

struct Bench<'a> {
    members: &'a Members,
    leader: usize,
    operator: Fabric,
    reporters: Reporters,
    disk: Disk,
}

/// Rounds under one load, and the disk's own between them.
#[derive(Default)]
struct Loaded {
    /// Changes a second, by round.
    updates: Vec<f64>,
    /// What the disk alone takes, a report at a time.
    disk: Vec<f64>,
    /// And in batches as the leader's.
    disk_batches: Vec<f64>,
    /// Mean bytes of the leader's syncs, by round.
    batches: Vec<f64>,
    commits: Latencies,
    /// Of such batches.
    syncs: Latencies,
    changes: usize,
    /// Of the leader, of a follower, of this process.
    cpu: [f64; 3],
    answered: Answered,
}

/// Lookups, from outside and inside.
#[derive(Default)]
struct Answered {
    probed: Probed,
    served: f64,
    served_seconds: f64,
}

impl Bench<'_> {
    async fn quiet(&self, probe: &mut Probe, time: Duration) -> anyhow::Result<Answered> {
        let mut answered = Answered::default();
        let before = self.counters().await?;
        let probed = probe.in_turn(time).await?;
        answered.add(probed, &before, &self.counters().await?);
        Ok(answered)
    }

    /// One round of load, then the disk alone.
    async fn loaded(
        &mut self,
        loaded: &mut Loaded,
        probe: &mut Probe,
        (time, pace): (Duration, Option<f64>),
        disk: Duration,
    ) -> anyhow::Result<()> {
        let (cpu, before) = (self.cpu()?, self.counters().await?);
        let stop = CancellationToken::new();
        let reporting = async {
            let round = self.reporters.round(time, pace).await;
            stop.cancel();
            round
        };
        let (round, probed) = tokio::join!(reporting, probe.paced(LOOKUPS_A_MS, &stop));
        let Round { changes, seconds, commits } = round?;
        let after = self.counters().await?;
        for (part, (before, after)) in loaded.cpu.iter_mut().zip(cpu.into_iter().zip(self.cpu()?)) {
            *part += after - before;
        }
        let grown = |name: &str| after[self.leader].get(name) - before[self.leader].get(name);
        let bytes = grown("weft_metadata_log_bytes_total");
        let batch = bytes / grown("weft_metadata_log_sync_seconds_count").max(1.0);
        let report = bytes * CHANGES as f64 / changes as f64;
        let mut alone = |bytes: f64| tokio::task::block_in_place(|| self.disk.sync(bytes as usize, disk));
        let (by_report, by_batch) = (alone(report)?, alone(batch)?);
        loaded.updates.push(changes as f64 / seconds);
        loaded.disk.push(by_report.bytes_per_s * changes as f64 / bytes);
        loaded.disk_batches.push(by_batch.bytes_per_s * changes as f64 / bytes);
        loaded.batches.push(batch);
        loaded.commits.join(commits);
        loaded.syncs.join(by_batch.times);
        loaded.changes += changes;
        loaded.answered.add(probed?, &before, &after);
        Ok(())
    }

    /// Every member lists as many blocks as the nodes hold.
    async fn check(&self) -> anyhow::Result<()> {
        let held = self.reporters.blocks() as u64;
        for status in self.members.settled(&self.operator).await? {
            ensure!(status.blocks == held, "member {}: {} blocks, the nodes hold {held}", status.member, status.blocks);
        }
        Ok(())
    }

    async fn counters(&self) -> anyhow::Result<Vec<Counters>> {
        let mut counters = Vec::new();
        for member in 0..MEMBERS {
            counters.push(self.members.counters(member).await?);
        }
        Ok(counters)
    }

    fn cpu(&self) -> anyhow::Result<[f64; 3]> {
        let mut cpu = [0.0, 0.0, cpu_seconds("self")?];
        for member in 0..MEMBERS {
            let seconds = self.members.cpu_seconds(member)?;
            match member == self.leader {
                true => cpu[0] += seconds,
                false => cpu[1] += seconds / (MEMBERS - 1) as f64,
            }
        }
        Ok(cpu)
    }
}

impl Loaded {
    fn commit(&self, id: &'static str, share: f64) -> Bar {
        Bar::value(id, 1e3 * self.commits.quantile(share), "ms").against(1e3 * self.syncs.quantile(share))
    }

    fn per_million(&self, cpu_seconds: f64) -> f64 {
        cpu_seconds / (self.changes as f64 / 1e6)
    }
}

impl Answered {
    fn add(&mut self, probed: Probed, before: &[Counters], after: &[Counters]) {
        let grown = |name: &str| -> f64 {
            after.iter().zip(before).map(|(after, before)| after.get(name) - before.get(name)).sum()
        };
        self.probed.join(probed);
        self.served += grown("weft_metadata_lookup_seconds_count");
        self.served_seconds += grown("weft_metadata_lookup_seconds_sum");
    }

    /// Median and 99th percentile against an echo's, and the mean of what the member itself took.
    fn bars(&self, [p50, p99, served]: [&'static str; 3]) -> [Bar; 3] {
        let Probed { lookups, echoes } = &self.probed;
        let bar = |id, share| Bar::value(id, 1e6 * lookups.quantile(share), "us").against(1e6 * echoes.quantile(share));
        [bar(p50, 0.5), bar(p99, 0.99), Bar::value(served, 1e6 * self.served_seconds / self.served.max(1.0), "us")]
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
