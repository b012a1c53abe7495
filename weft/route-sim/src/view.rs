//! What a rule is told, and what it answers.

use crate::{Request, Setup};

/// A routing rule.
pub trait Rule {
    /// Where a request goes. `dice`: any random number.
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice;

    /// Its first token came.
    fn first_token(&mut self, _now_s: f64, _number: usize) {}

    /// Its answer ended.
    fn ended(&mut self, _now_s: f64, _number: usize) {}

    /// Engines share one memory of their summed size, which nobody can build: this rule is a bound for the others.
    fn pools_memory(&self) -> bool {
        false
    }
}

/// The fleet at the arrival of a request.
#[derive(Debug)]
pub struct View<'a> {
    /// Virtual time.
    pub now_s: f64,
    /// What is simulated.
    pub setup: &'a Setup,
    /// Number of the request.
    pub number: usize,
    /// The request.
    pub request: &'a Request,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// By replica.
    pub engines: &'a [EngineView],
}

/// One replica. What is held is what the index says; the rest is counted at the moment, which flatters those rules that would
/// have to ask for it.
#[derive(Clone, Copy, Debug)]
pub struct EngineView {
    /// Requests routed there that have not ended.
    pub in_flight: u32,
    /// Requests that wait for their prefill.
    pub queued: u32,
    /// Tokens to compute of requests without a first token, as expected when they were routed.
    pub waiting_tokens: u64,
    /// The same in seconds.
    pub wait_s: f64,
    /// Blocks in use, and room for them.
    pub used_blocks: usize,
    /// Room for blocks in device memory.
    pub capacity_blocks: usize,
    /// Blocks that would be in use with this request.
    pub used_blocks_after: usize,
    /// Leading blocks of the prompt in device memory.
    pub device_blocks: usize,
    /// Leading blocks of it in device or host memory.
    pub local_blocks: usize,
}

/// What a rule answers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Choice {
    /// Where the request goes.
    pub replica: usize,
    /// What is fetched for it.
    pub peer: Peer,
}

/// Whether blocks are fetched from a peer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Peer {
    /// No.
    Never,
    /// From this replica's node.
    From(usize),
    /// If it is faster, by true rates: what an engine can do by itself once the request is there.
    IfFaster,
}
