//! Nodes that report without end: each keeps a window of a ring of blocks, and moves it on with every report, half of whose
//! changes store what comes in front of the window and half remove what falls out behind it.
//!
//! Two nodes share a ring, so that blocks have one holder or two, and prefixes are runs of the ring, as prompts are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weft_index::Change;
use weft_metadata_client::MetadataClient;
use weft_types::{IndexKey, Role};

use crate::bench::holder::Holder;
use crate::bench::latencies::Latencies;
use crate::bench::members::Members;

/// Nodes.
pub(crate) const REPORTERS: usize = 32;
/// Changes in a report.
pub(crate) const CHANGES: usize = 4096;
/// Blocks that a node holds.
pub(crate) const WINDOW: usize = 32_768;
/// Blocks in a ring.
const RING: usize = 2 * WINDOW;
/// Longest wait for an acknowledgement: a node's own.
const DEADLINE: Duration = Duration::from_secs(10);

/// The nodes, between two rounds.
pub(crate) struct Reporters(Vec<Reporter>);

/// What a round was.
pub(crate) struct Round {
    /// Changes acknowledged.
    pub(crate) changes: usize,
    pub(crate) seconds: f64,
    /// From the moment when a report was due to its acknowledgement.
    pub(crate) commits: Latencies,
}

struct Reporter {
    holder: Holder,
    ring: Arc<[IndexKey]>,
    /// Where the window begins, counted on and on.
    at: usize,
}

impl Reporters {
    /// Joins them and fills their windows.
    pub(crate) async fn start(members: &Members) -> anyhow::Result<Self> {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        let mut ring = || (0..RING).map(|_| IndexKey::from_bytes(dice.random())).collect();
        let rings: Vec<Arc<[IndexKey]>> = (0..REPORTERS / 2).map(|_| ring()).collect();
        let mut reporters = Vec::new();
        for number in 0..REPORTERS {
            let name = format!("node-{number}");
            let client = MetadataClient::new(members.caller(Role::Node, &name)?, members.addrs());
            let holder = Holder::join(client, &name, DEADLINE).await?;
            reporters.push(Reporter { holder, ring: rings[number / 2].clone(), at: 0 });
        }
        let mut filled = JoinSet::new();
        for mut reporter in reporters {
            filled.spawn(async move {
                reporter.fill().await?;
                anyhow::Ok(reporter)
            });
        }
        Ok(Self(filled.join_all().await.into_iter().collect::<Result<_, _>>()?))
    }

    /// Reports for so long; each node has one report on its way at a time. `pace`: changes a second of all of them together,
    /// evenly spread; `None`: as fast as they are acknowledged.
    pub(crate) async fn round(&mut self, time: Duration, pace: Option<f64>) -> anyhow::Result<Round> {
        let began = Instant::now();
        let every = pace.map(|pace| Duration::from_secs_f64((CHANGES * REPORTERS) as f64 / pace));
        let mut reporting = JoinSet::new();
        for (place, mut reporter) in std::mem::take(&mut self.0).into_iter().enumerate() {
            reporting.spawn(async move {
                let mut commits = Latencies::default();
                let first = began + every.unwrap_or_default().mul_f64(place as f64 / REPORTERS as f64);
                for turn in 0.. {
                    let due = match every {
                        Some(every) => first + every * turn,
                        None => Instant::now(),
                    };
                    if due >= began + time {
                        break;
                    }
                    sleep_until(due).await;
                    reporter.advance().await?;
                    commits.add(due.elapsed());
                }
                anyhow::Ok((reporter, commits))
            });
        }
        let (mut changes, mut commits) = (0, Latencies::default());
        for done in reporting.join_all().await {
            let (reporter, of_one) = done?;
            changes += CHANGES * of_one.len();
            commits.join(of_one);
            self.0.push(reporter);
        }
        Ok(Round { changes, seconds: began.elapsed().as_secs_f64(), commits })
    }

    /// The rings: runs of them are prefixes.
    pub(crate) fn rings(&self) -> Vec<Arc<[IndexKey]>> {
        let rings: BTreeMap<_, _> = self.0.iter().map(|reporter| (reporter.ring.as_ptr(), &reporter.ring)).collect();
        rings.into_values().cloned().collect()
    }

    /// Distinct blocks that all of them hold together.
    pub(crate) fn blocks(&self) -> usize {
        let held = |ring: &Arc<[IndexKey]>| {
            let sharing: Vec<_> = self.0.iter().filter(|reporter| Arc::ptr_eq(&reporter.ring, ring)).collect();
            (0..RING).filter(|at| sharing.iter().any(|reporter| reporter.holds(*at))).count()
        };
        self.rings().iter().map(held).sum()
    }
}

impl Reporter {
    async fn fill(&mut self) -> anyhow::Result<()> {
        for at in (0..WINDOW).step_by(CHANGES) {
            let keys = &self.ring[at..at + CHANGES];
            self.holder.report(keys.iter().map(|key| Change::Stored(*key)).collect()).await?;
        }
        Ok(())
    }

    /// Moves the window on by half a report.
    async fn advance(&mut self) -> anyhow::Result<()> {
        let at = |offset: usize| self.ring[(self.at + offset) % RING];
        let stored = (0..CHANGES / 2).map(|block| Change::Stored(at(WINDOW + block)));
        let removed = (0..CHANGES / 2).map(|block| Change::Removed(at(block)));
        self.holder.report(stored.chain(removed).collect()).await?;
        self.at += CHANGES / 2;
        Ok(())
    }

    fn holds(&self, at: usize) -> bool {
        (at + RING - self.at % RING) % RING < WINDOW
    }
}
