//! One engine: a queue, a prefill that serves one request at a time, and a batch that decodes.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use crate::device::Held;
use crate::world::At;

/// An engine without its memory.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) prefill: Option<Prefill>,
    pub(crate) batch: Batch,
    pub(crate) in_flight: u32,
    pub(crate) busy_s: f64,
}

/// A request that waits for its prefill.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) number: usize,
    /// When what is loaded for it has come.
    pub(crate) ready_s: f64,
    /// Blocks that are loaded from host memory.
    pub(crate) loaded: Range<usize>,
    /// Blocks that are fetched from a peer.
    pub(crate) fetched: Range<usize>,
    /// Tokens that were expected to be computed.
    pub(crate) expected_tokens: u64,
    /// And how long that takes.
    pub(crate) expected_s: f64,
}

/// A request that is computed.
#[derive(Debug)]
pub(crate) struct Prefill {
    pub(crate) number: usize,
    pub(crate) held: Held,
    pub(crate) began_s: f64,
    pub(crate) expected_tokens: u64,
    pub(crate) expected_s: f64,
}

impl Engine {
    /// Tokens of requests without a first token, as expected when they came.
    pub(crate) fn waiting_tokens(&self) -> u64 {
        let queued: u64 = self.queue.iter().map(|queued| queued.expected_tokens).sum();
        queued + self.prefill.as_ref().map_or(0, |prefill| prefill.expected_tokens)
    }

    /// Seconds until they are done.
    pub(crate) fn wait_s(&self, now_s: f64) -> f64 {
        let queued: f64 = self.queue.iter().map(|queued| queued.expected_s).sum();
        let running =
            self.prefill.as_ref().map_or(0.0, |prefill| (prefill.expected_s - (now_s - prefill.began_s)).max(0.0));
        queued + running
    }
}

/// Requests that decode: all in step, and the slower the more there are.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Requests, by the step at which they end.
    ends: BinaryHeap<At<Decoding>>,
    /// Steps made so far.
    step: f64,
    at_s: f64,
    /// Changes with every change of the batch: an older forecast of its next end is void.
    pub(crate) version: u64,
}

/// A request that decodes.
#[derive(Debug)]
pub(crate) struct Decoding {
    pub(crate) number: usize,
    pub(crate) held: Held,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A request of so many tokens joins.
    pub(crate) fn join(&mut self, now_s: f64, decoding: Decoding, tokens: u32, model: &crate::Engine) {
        self.advance(now_s, model);
        self.ends.push(At { at: self.step + f64::from(tokens), order: decoding.number as u64, what: decoding });
        self.version += 1;
    }

    /// The request that ends now leaves.
    pub(crate) fn leave(&mut self, now_s: f64, model: &crate::Engine) -> Option<Decoding> {
        self.advance(now_s, model);
        self.version += 1;
        self.ends.pop().map(|end| end.what)
    }

    /// When the next one ends, if nothing changes.
    pub(crate) fn next_end_s(&self, model: &crate::Engine) -> Option<f64> {
        self.ends.peek().map(|end| self.at_s + (end.at - self.step).max(0.0) * self.step_s(model))
    }

    fn advance(&mut self, now_s: f64, model: &crate::Engine) {
        self.step += (now_s - self.at_s) / self.step_s(model);
        self.at_s = now_s;
    }

    fn step_s(&self, model: &crate::Engine) -> f64 {
        model.decode_s + model.decode_each_s * self.len() as f64
    }
}
