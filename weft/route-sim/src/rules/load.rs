//! Rules that look at load alone, and the greedy one.

use super::least;
use crate::{Choice, Peer, Rule, View};

/// The next one.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    next: usize,
}

impl Rule for RoundRobin {
    fn route(&mut self, view: &View<'_>, _dice: u64) -> Choice {
        let replica = self.next % view.engines.len();
        self.next = replica + 1;
        Choice { replica, peer: Peer::IfFaster }
    }
}

/// The one with the fewest requests.
#[derive(Debug)]
pub(super) struct LeastRequests;

impl Rule for LeastRequests {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let key = |replica: usize| f64::from(view.engines[replica].in_flight);
        Choice { replica: least(0..view.engines.len(), dice, key), peer: Peer::IfFaster }
    }
}

/// The one with the fewest tokens to compute.
#[derive(Debug)]
pub(super) struct LeastTokens;

impl Rule for LeastTokens {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let key = |replica: usize| view.engines[replica].waiting_tokens as f64;
        Choice { replica: least(0..view.engines.len(), dice, key), peer: Peer::IfFaster }
    }
}

/// The earliest first token, as Mooncake's conductor has it: the request's own time and nobody else's.
#[derive(Debug)]
pub(super) struct Greedy;

impl Rule for Greedy {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let key = |replica: usize| {
            let engine = &view.engines[replica];
            let cached = engine.local_blocks as f64 * f64::from(view.block_tokens);
            let tokens = f64::from(view.request.input_tokens) - cached;
            engine.wait_s + tokens / view.setup.engine.prefill_tokens_per_s
        };
        Choice { replica: least(0..view.engines.len(), dice, key), peer: Peer::IfFaster }
    }
}
