//! Rules that weigh a prefix against load with fixed weights.

use super::least;
use crate::order::Order;
use crate::{Choice, EngineView, Peer, Rule, Setup, View, Workload};

/// Gateway API inference extension (llm-d) with its default profile: 3 for the prefix in an approximate index of the cache's
/// size, 2 for the queue, 2 for free KV.
#[derive(Debug)]
pub(super) struct Gie {
    /// What was routed where, by replica, as much as fits.
    routed: Vec<Order>,
    capacity: usize,
}

impl Gie {
    pub(super) fn new(setup: &Setup, workload: &Workload) -> Self {
        let tokens = setup.engine.device_tokens + setup.host.map_or(0, |host| host.tokens);
        Self {
            routed: (0..setup.replicas).map(|_| Order::new(workload.blocks)).collect(),
            capacity: (tokens / u64::from(workload.block_tokens)) as usize,
        }
    }
}

impl Rule for Gie {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let prompt = &view.request.blocks;
        let matched: Vec<f64> = self
            .routed
            .iter()
            .map(|routed| prompt.iter().take_while(|block| routed.contains(**block)).count() as f64)
            .collect();
        let score = |replica: usize| {
            let engine = &view.engines[replica];
            3.0 * ratio(view, matched[replica]) + 2.0 * queue_score(view, engine) + 2.0 * free_score(engine)
        };
        let replica = least(0..view.engines.len(), dice, |replica| -score(replica));
        let routed = &mut self.routed[replica];
        for block in prompt.iter().rev() {
            routed.remove(*block);
            routed.push(*block);
        }
        while routed.len() > self.capacity {
            let Some(oldest) = routed.oldest() else { break };
            routed.remove(oldest);
        }
        Choice { replica, peer: Peer::IfFaster }
    }
}

/// llm-d with a precise prefix index: 2 for the prefix, 1 for the queue, 1 for free KV.
#[derive(Debug)]
pub(super) struct Llmd;

impl Rule for Llmd {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let score = |replica: usize| {
            let engine = &view.engines[replica];
            2.0 * ratio(view, engine.local_blocks as f64) + queue_score(view, engine) + free_score(engine)
        };
        Choice { replica: least(0..view.engines.len(), dice, |replica| -score(replica)), peer: Peer::IfFaster }
    }
}

/// Dynamo's KV router at temperature 0: prefill blocks still to be computed, with those of the request that are not cached, and
/// blocks in use after its admission.
#[derive(Debug)]
pub(super) struct Dynamo {
    /// 1 as it is shipped; 0 leaves the blocks in use out, the best of its settings that was found.
    pub(super) decode_weight: f64,
}

impl Dynamo {
    /// What a block in host memory counts.
    const HOST_CREDIT: f64 = 0.75;
}

impl Rule for Dynamo {
    fn route(&mut self, view: &View<'_>, dice: u64) -> Choice {
        let block = f64::from(view.block_tokens);
        let cost = |replica: usize| {
            let engine = &view.engines[replica];
            let host = (engine.local_blocks - engine.device_blocks) as f64;
            let cached = engine.device_blocks as f64 + Self::HOST_CREDIT * host;
            let prompt = engine.waiting_tokens as f64 + f64::from(view.request.input_tokens);
            (prompt / block - cached).max(0.0) + self.decode_weight * engine.used_blocks_after as f64
        };
        Choice { replica: least(0..view.engines.len(), dice, cost), peer: Peer::IfFaster }
    }
}

fn ratio(view: &View<'_>, blocks: f64) -> f64 {
    blocks * f64::from(view.block_tokens) / f64::from(view.request.input_tokens)
}

/// 1 for the shortest queue, 0 for the longest.
fn queue_score(view: &View<'_>, engine: &EngineView) -> f64 {
    let queues = view.engines.iter().map(|engine| f64::from(engine.queued));
    let (shortest, longest) = (queues.clone().fold(f64::INFINITY, f64::min), queues.fold(0.0, f64::max));
    if longest > shortest { (longest - f64::from(engine.queued)) / (longest - shortest) } else { 1.0 }
}

fn free_score(engine: &EngineView) -> f64 {
    1.0 - engine.used_blocks as f64 / engine.capacity_blocks.max(1) as f64
}
