//! The deterministic simulation: metadata members, nodes and a router in one thread and in virtual time, through a history that
//! a seed makes up.
//!
//! ```text
//!  seed ─► history ─► World ─┬─ members: the real service, Raft, log and directory, each on a Disk that loses power
//!                            ├─ nodes: real outboxes over the real client          │ all through Weather: lost, late,
//!                            ├─ operators: the real client                         │ doubled, overtaken, cut off
//!                            └─ a router: the real follower                        ┘
//!                              │
//!                              └─► invariants, one a file ─► Chronicle ─► a seed that replays
//! ```
//! # What makes it deterministic
//! One thread; a clock that moves only when everybody waits; every die thrown by the seed (openraft's election timeouts, the
//! client's jitter, the device's pauses, weather and history); nothing decided by the order of a hash map, and no two branches
//! of a `select!` that are ready together without an order. `tests/replays.rs` compares two runs of a seed.
//!
//! How to run and replay it is in `docs/simulation.md`.
//!
//! # Absent on purpose
//! - QUIC and TLS (`transport/tests`), real files (`metadata`'s own tests), real processes (`tests/cluster`).

mod accounts;
mod chronicle;
mod history;
mod invariants;
mod linear;
mod node;
mod weather;
mod world;

use std::sync::Arc;
use std::time::Duration;

use weft_metadata::testing::Simulation;

use crate::chronicle::Chronicle;
pub use crate::chronicle::Judged;
pub use crate::world::Guards;
use crate::world::World;

/// Things that happen in one run: some twenty seconds of virtual time.
pub const STEPS: usize = 100;

/// How long a group takes at most until it has formed, with a leader, where nothing goes wrong.
const FORMED_WITHIN: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Things that happen before everything is mended and checked.
    pub steps: usize,
    /// Guards that are on.
    pub guards: Guards,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What did not hold; empty if everything did.
    pub violations: Vec<String>,
    /// What happened, a line each.
    pub chronicle: String,
    /// The same for the same run, always.
    pub hash: u64,
    /// Histories of accounts for which an order was looked for.
    pub judged: Judged,
}

impl Run {
    /// A full run of a seed, every guard on.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, steps: STEPS, guards: Guards::default() }
    }

    /// Runs it on this thread.
    ///
    /// # Panics
    /// The runtime cannot be made.
    #[must_use]
    pub fn run(self) -> Report {
        self.simulate(async |mut world: World, chronicle: Arc<Chronicle>| {
            history::unfold(&mut world, self.steps).await;
            if !chronicle.is_violated() {
                world.rest().await;
            }
            Report {
                violations: chronicle.violations(),
                chronicle: chronicle.text(),
                hash: chronicle.hash(),
                judged: chronicle.histories(),
            }
        })
    }

    /// Instead of a history: a leader dies in the midst of a change of the group, and nobody asks for that again. `None`: it was
    /// over, or forgotten, when it died. Otherwise whether it was ended.
    ///
    /// # Panics
    /// The runtime cannot be made.
    #[must_use]
    pub fn abandon_change(self) -> Option<bool> {
        self.simulate(async |mut world: World, _| {
            world.pass(FORMED_WITHIN).await;
            match world.abandon_change().await {
                true => Some(world.ends_changes().await),
                false => None,
            }
        })
    }

    /// Instead of a history: a new member follows a leader whose decision to take it in comes to nothing, and the next leader is asked to
    /// take it in. `None`: it was agreed on after all. Otherwise whether it was done.
    ///
    /// # Panics
    /// The runtime cannot be made.
    #[must_use]
    pub fn strand_newcomer(self) -> Option<bool> {
        self.simulate(async |mut world: World, _| {
            world.pass(FORMED_WITHIN).await;
            match world.strand_newcomer().await {
                true => Some(world.changes_group().await),
                false => None,
            }
        })
    }

    fn simulate<T>(self, what: impl AsyncFnOnce(World, Arc<Chronicle>) -> T) -> T {
        let _simulation = Simulation::begin(self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing that can be missing");
        runtime.block_on(async {
            let chronicle = Arc::new(Chronicle::begin());
            let world = World::new(self.seed, self.guards, chronicle.clone()).await;
            what(world, chronicle).await
        })
    }

    /// The shortest history of the same seed that still fails, as far as halving finds it.
    #[must_use]
    pub fn shrink(self) -> Self {
        let (mut passes, mut fails) = (0, self.steps);
        while passes + 1 < fails {
            let steps = passes.midpoint(fails);
            match (Self { steps, ..self }).run().violations.is_empty() {
                true => passes = steps,
                false => fails = steps,
            }
        }
        Self { steps: fails, ..self }
    }
}
