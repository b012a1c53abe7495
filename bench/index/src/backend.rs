//! What a backend does, and which there are.

use crate::backends::{chain::Chain, crtc::Crtc, radix::Radix, weft::Weft};
use crate::workload::{Block, Workload};

/// Which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `weft-index`.
    Weft,
    /// `kv-index` 2.0: `ChainIndex`.
    Chain,
    /// `dynamo-kv-router` 1.6: `ConcurrentRadixTreeCompressed`.
    Crtc,
    /// `dynamo-kv-router` 1.6: `RadixTree`.
    Radix,
}

/// One index under test.
pub trait Backend {
    /// Applies everything that was given when it was made. The events are gone afterwards.
    fn apply(&mut self);

    /// Makes the request's own form ready; outside of the clock.
    fn prepare(&mut self, request: &[Block]);

    /// Leading blocks by holder, of the request prepared last.
    fn lookup(&mut self) -> Answer;
}

/// Sum over an answer, in an order that does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Holders in it.
    pub holders: u64,
    /// A sum over mixed (holder, blocks).
    pub sum: u64,
}

impl Answer {
    /// Adds one holder with its leading blocks.
    pub fn add(&mut self, holder: u32, blocks: u32) {
        self.holders += 1;
        let pair = u64::from(holder) << 32 | u64::from(blocks);
        self.sum = self.sum.wrapping_add((pair + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    }
}

impl Kind {
    /// Makes an empty index, with the workload's events in the form that it takes.
    #[must_use]
    pub fn backend(self, workload: &Workload, holders: u32) -> Box<dyn Backend> {
        match self {
            Self::Weft => Box::new(Weft::new(workload)),
            Self::Chain => Box::new(Chain::new(workload, holders)),
            Self::Crtc => Box::new(Crtc::new(workload)),
            Self::Radix => Box::new(Radix::new(workload)),
        }
    }
}
