//! The seeded network: what is lost, late, doubled, overtaken or cut off.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_transport::memory;

/// Longest delay of an ordinary message, unless it is a straggler.
const DELAY_MAX: Duration = Duration::from_millis(6);

/// Longest delay of a straggler, and of a second copy: longer than an attempt of any call waits.
const STRAGGLE_MAX: Duration = Duration::from_millis(900);

/// The network's weather.
#[derive(Debug)]
pub(crate) struct Weather(Mutex<State>);

#[derive(Debug)]
struct State {
    random: ChaCha8Rng,
    climate: Climate,
    /// Who does not reach whom.
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    /// Part of the messages that are lost.
    pub(crate) lost: f64,
    /// Part of them that arrive twice.
    pub(crate) doubled: f64,
    /// Part of them that arrive after others that were sent later.
    pub(crate) straggling: f64,
}

impl Climate {
    /// Only ordinary delays, which reorder a little.
    pub(crate) const CALM: Self = Self { lost: 0.0, doubled: 0.0, straggling: 0.0 };
}

impl Weather {
    /// By this seed.
    #[must_use]
    pub(crate) fn new(seed: u64, climate: Climate) -> Self {
        Self(Mutex::new(State { random: ChaCha8Rng::seed_from_u64(seed), climate, cuts: BTreeSet::new() }))
    }

    /// Nothing from `from` reaches `to` any more.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().cuts.insert((from, to));
    }

    /// Nothing is cut any more.
    pub(crate) fn heal(&self) {
        self.0.lock().cuts.clear();
    }

    /// Changes for the better or the worse.
    pub(crate) fn set(&self, climate: Climate) {
        self.0.lock().climate = climate;
    }
}

impl memory::Weather for Weather {
    fn copies(&self, from: SocketAddr, to: SocketAddr) -> Vec<Duration> {
        let State { random, climate, cuts } = &mut *self.0.lock();
        if cuts.contains(&(from, to)) || random.random_bool(climate.lost) {
            return Vec::new();
        }
        let straggles = random.random_bool(climate.straggling);
        let first = random.random_range(Duration::ZERO..if straggles { STRAGGLE_MAX } else { DELAY_MAX });
        let mut copies = vec![first];
        if random.random_bool(climate.doubled) {
            copies.push(random.random_range(Duration::ZERO..STRAGGLE_MAX));
        }
        copies
    }
}
