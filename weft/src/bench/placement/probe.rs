//! Lookups at a steady pace, each beside an echo of the same sizes: what the call costs without a directory behind it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use weft_metadata_proto::v1::{LookupRequest, method};
use weft_transport::{Fabric, Routes, Target};
use weft_types::codec::DecodeError;
use weft_types::rpc::{Message, Method};
use weft_types::{IndexKey, Role, ShardId};

use crate::bench::latencies::Latencies;
use crate::bench::members::{MEMBERS, Members};

/// Blocks in the prefix that is looked up: 8,192 tokens.
pub(crate) const PREFIX_BLOCKS: usize = 128;
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Calls under way at most: those that a member which stands still leaves behind at the pace below.
const CALLS_MAX: usize = 4096;

/// Calls members and an echo.
pub(crate) struct Probe {
    fabric: Fabric,
    targets: Vec<Target>,
    rings: Vec<Arc<[IndexKey]>>,
    echo: Echoing,
    dice: ChaCha8Rng,
}

/// Times of both.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    pub(crate) lookups: Latencies,
    pub(crate) echoes: Latencies,
}

/// A fabric on a thread of its own that sends back as many bytes as a lookup's answer has.
struct Echoing {
    runtime: Option<Runtime>,
    target: Target,
}

impl Probe {
    pub(crate) fn new(members: &Members, rings: Vec<Arc<[IndexKey]>>) -> anyhow::Result<Self> {
        Ok(Self {
            fabric: members.caller(Role::Router, "router-1")?,
            targets: (0..MEMBERS).map(|member| members.target(member)).collect(),
            rings,
            echo: Echoing::start(members)?,
            dice: ChaCha8Rng::seed_from_u64(2),
        })
    }

    /// One call after the other for so long: every member in turn, an echo behind each.
    pub(crate) async fn in_turn(&mut self, time: Duration) -> anyhow::Result<Probed> {
        let (began, mut probed) = (Instant::now(), Probed::default());
        while began.elapsed() < time {
            for member in 0..MEMBERS {
                let prefix = self.prefix();
                probed.lookups.add(lookup(&self.fabric, &self.targets[member], prefix).await?);
                probed.echoes.add(echo(&self.fabric, &self.echo.target).await?);
            }
        }
        Ok(probed)
    }

    /// `lookups` every millisecond whatever became of those before, every member in turn, and an echo, until told to stop.
    pub(crate) async fn paced(&mut self, lookups: usize, stop: &CancellationToken) -> anyhow::Result<Probed> {
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut calls, mut probed, mut member) = (JoinSet::new(), Probed::default(), 0);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            ensure!(calls.len() < CALLS_MAX, "{CALLS_MAX} lookups wait for an answer");
            for _ in 0..lookups {
                member = (member + 1) % MEMBERS;
                let (fabric, target, prefix) = (self.fabric.clone(), self.targets[member].clone(), self.prefix());
                calls.spawn(async move { (true, lookup(&fabric, &target, prefix).await) });
            }
            let (fabric, target) = (self.fabric.clone(), self.echo.target.clone());
            calls.spawn(async move { (false, echo(&fabric, &target).await) });
            while let Some(done) = calls.try_join_next() {
                probed.add(done.context("a call panicked")?)?;
            }
        }
        for done in calls.join_all().await {
            probed.add(done)?;
        }
        Ok(probed)
    }

    /// A run of a ring. Not all of it need be held.
    fn prefix(&mut self) -> Vec<IndexKey> {
        let ring = &self.rings[self.dice.random_range(0..self.rings.len())];
        let at = self.dice.random_range(0..ring.len() - PREFIX_BLOCKS);
        ring[at..at + PREFIX_BLOCKS].to_vec()
    }
}

impl Probed {
    pub(crate) fn join(&mut self, other: Self) {
        self.lookups.join(other.lookups);
        self.echoes.join(other.echoes);
    }

    fn add(&mut self, (of_lookup, time): (bool, anyhow::Result<Duration>)) -> anyhow::Result<()> {
        let times = if of_lookup { &mut self.lookups } else { &mut self.echoes };
        times.add(time?);
        Ok(())
    }
}

async fn lookup(fabric: &Fabric, to: &Target, prefix: Vec<IndexKey>) -> anyhow::Result<Duration> {
    let (request, began) = (LookupRequest { shard: ShardId::new(0), prefix }, Instant::now());
    fabric.call::<method::Lookup>(to, &request, DEADLINE).await?;
    Ok(began.elapsed())
}

async fn echo(fabric: &Fabric, to: &Target) -> anyhow::Result<Duration> {
    let began = Instant::now();
    fabric.call::<Echo>(to, &Raw(vec![1; REQUEST_BYTES]), DEADLINE).await?;
    Ok(began.elapsed())
}

/// What a lookup of [`PREFIX_BLOCKS`] sends.
const REQUEST_BYTES: usize = 8 + PREFIX_BLOCKS * IndexKey::LEN;
/// What it is answered with two holders in it.
const RESPONSE_BYTES: usize = 48;

enum Echo {}

impl Method for Echo {
    const ID: u16 = 1;
    const NAME: &'static str = "echo";
    type Request = Raw;
    type Response = Raw;
}

struct Raw(Vec<u8>);

impl Message for Raw {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(bytes.to_vec()))
    }
}

impl Echoing {
    fn start(members: &Members) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        let fabric = members.caller(Role::Metadata, "echo")?;
        let target = Target { addr: fabric.local_addr(), role: Role::Metadata, name: None };
        let answer = async |_, _| Ok(Raw(vec![1; RESPONSE_BYTES]));
        fabric.serve(Routes::new().rpc::<Echo, _, _>(&[Role::Router], answer));
        drop(_entered);
        // The fabric lives as long as a task holds it.
        runtime.spawn(async move {
            let _fabric = fabric;
            std::future::pending::<()>().await;
        });
        Ok(Self { runtime: Some(runtime), target })
    }
}

impl Drop for Echoing {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
