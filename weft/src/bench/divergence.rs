//! Divergence: a node's reports are lost on the way to the group. When is what the directory lists of it right again, and what
//! did that cost, against telling everything anew?
//!
//! ```text
//!   engine ─ stores ─► node ─ reports ─► proxy ─► leader ─► log        3 members as processes, mutual TLS
//!                        ▲                 ╳ loses some of them
//!                        └──── digests, and what differs
//! ```
//! Two losses are told apart. *Unnoticed*: the report's number is taken and its changes are not, as when a member restored an old
//! state or a bit flipped; only comparing finds it. *Noticed*: it is acknowledged and never arrives, and the next report's number
//! tells. A repair is one comparison that found a difference and what it replaced; without it, each would be a full dump. And
//! for ten seconds reports are not answered at all, while the node keeps alive. Whether the list is right is asked of
//! the leader by digests of what the node really holds, which the engine is asked for block by block.

mod faults;
mod proxy;
mod subject;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use weft_index::Digests;

use self::faults::Fault;
use self::proxy::{Carried, Proxy};
use self::subject::Subject;
use super::form::Bar;
use super::measure::Effort;
use super::members::{MEMBERS, Members};
use super::{Measured, params};

/// Blocks of a store: a prompt of 2,048 tokens.
pub(crate) const STORE_BLOCKS: usize = 32;
/// Between two comparisons of one holder: a twelfth of the default, so that the bench ends in a minute.
const ANTI_ENTROPY: Duration = Duration::from_secs(5);
/// Longer than the node gathers changes: each store is a report.
const STORE_PAUSE: Duration = Duration::from_millis(7);
/// Reports unanswered.
const CUT: Duration = Duration::from_secs(10);
/// Between two looks at the digests.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for the list to be right.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is done.
struct Plan {
    /// While reports are lost.
    stores: usize,
}

impl From<Effort> for Plan {
    fn from(effort: Effort) -> Self {
        Self { stores: if effort.quick { 400 } else { 2_000 } }
    }
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let members = Members::start(&params(json!({}))).await?;
    let measured = run(&members, &Plan::from(effort)).await;
    members.stop().await;
    measured
}

async fn run(members: &Members, plan: &Plan) -> anyhow::Result<Measured> {
    let proxy = Proxy::start(members).await?;
    let mut bench = Bench { subject: Subject::start(members, proxy.addr(), ANTI_ENTROPY).await?, proxy };
    bench.subject.fill().await?;
    let held = bench.right().await?;
    let dump = bench.dump().await?;
    let unnoticed = bench.losses(Fault::Unnoticed, plan.stores).await?;
    let noticed = bench.losses(Fault::Noticed, plan.stores).await?;
    let cut = bench.cut().await?;
    let Bench { subject, .. } = bench;
    let left = subject.different_blocks().await?;
    subject.stop().await;

    let bytes = |id, of: &Repaired| Bar::value(id, of.bytes as f64, "bytes").against(dump.bytes as f64);
    let each = |id, of: &Repaired| {
        let bytes = of.bytes as f64 / of.found.max(1) as f64;
        Bar::value(id, bytes.round(), "bytes").against(dump.bytes as f64).at_most(0.1)
    };
    let seconds = |id, time: Duration| Bar::value(id, time.as_secs_f64(), "s");
    let periods = |id, of: &Repaired| seconds(id, of.time).against(ANTI_ENTROPY.as_secs_f64()).at_most(2.0);
    let count = |id, count: u64, unit| Bar::value(id, count as f64, unit);
    let bars = vec![
        count("full_dump", dump.bytes, "bytes"),
        seconds("full_dump_time", dump.time),
        each("unnoticed_repair", &unnoticed),
        bytes("unnoticed_repairs_in_all", &unnoticed),
        periods("unnoticed_time", &unnoticed),
        count("unnoticed_repairs", unnoticed.found, "repairs"),
        count("unnoticed_lost", unnoticed.lost, "reports"),
        each("noticed_repair", &noticed),
        bytes("noticed_repairs_in_all", &noticed),
        periods("noticed_time", &noticed),
        count("noticed_repairs", noticed.found, "repairs"),
        count("noticed_lost", noticed.lost, "reports"),
        bytes("cut_sent_after", &cut),
        periods("cut_time", &cut),
        count("different_in_the_end", left, "blocks").at_most(0.0),
    ];
    let params = params(json!({
        "members": MEMBERS, "blocks_held": held, "blocks_a_report": 2 * STORE_BLOCKS, "reports": plan.stores,
        "lost_share": faults::SHARE, "anti_entropy_s": ANTI_ENTROPY.as_secs_f64(), "cut_s": CUT.as_secs_f64(),
    }));
    Ok(Measured { params, bars })
}

struct Bench {
    subject: Subject,
    proxy: Proxy,
}

/// What it took until the list was right.
struct Repaired {
    /// Since nothing was lost any more.
    time: Duration,
    bytes: u64,
    /// How often something was put right.
    found: u64,
    /// Reports.
    lost: u64,
}

impl Bench {
    /// The node is told that its grant is over: it joins again, and reports everything.
    async fn dump(&mut self) -> anyhow::Result<Repaired> {
        self.proxy.take();
        self.proxy.set(Fault::Fence);
        let began = Instant::now();
        self.subject.store().await?;
        self.right().await?;
        Ok(Repaired {
            time: self.proxy.until_last_report(began),
            bytes: self.proxy.take().report_bytes,
            found: 1,
            lost: 0,
        })
    }

    /// Stores while some reports are lost.
    async fn losses(&mut self, fault: Fault, stores: usize) -> anyhow::Result<Repaired> {
        self.proxy.take();
        self.proxy.set(fault);
        for _ in 0..stores {
            self.subject.store().await?;
            sleep(STORE_PAUSE).await;
        }
        self.proxy.set(Fault::None);
        let ended = Instant::now();
        self.right().await?;
        let time = self.proxy.until_last_report(ended);
        let Carried { repair_bytes, digest_bytes, found, lost, .. } = self.proxy.take();
        ensure!(lost > 0, "no report was lost");
        Ok(Repaired { time, bytes: repair_bytes + digest_bytes, found, lost })
    }

    /// Stores while no report is answered, and then no more.
    async fn cut(&mut self) -> anyhow::Result<Repaired> {
        self.proxy.set(Fault::Cut);
        let began = Instant::now();
        while began.elapsed() < CUT {
            self.subject.store().await?;
            sleep(STORE_PAUSE).await;
        }
        self.proxy.take();
        self.proxy.set(Fault::None);
        let ended = Instant::now();
        self.right().await?;
        let Carried { report_bytes, digest_bytes, .. } = self.proxy.take();
        Ok(Repaired {
            time: self.proxy.until_last_report(ended),
            bytes: report_bytes + digest_bytes,
            found: 1,
            lost: 0,
        })
    }

    /// Waits until the list is right, and returns how many blocks are held. Nothing is stored meanwhile.
    async fn right(&mut self) -> anyhow::Result<u64> {
        let held = self.subject.held().await?;
        let mut digests = Digests::new();
        held.iter().for_each(|key| digests.insert(key));
        let righting = async {
            while self.proxy.differing(&digests).await? > 0 {
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, righting).await.context("the directory's list does not become right")??;
        Ok(held.len() as u64)
    }
}
