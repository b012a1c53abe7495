//! Links between nodes: fetches that were caused and are not over, as far as they can be told from here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_types::NodeId;

/// Until when each node sends and receives. Idle nodes are not kept.
#[derive(Debug, Default)]
pub(crate) struct Links {
    sends_until: BTreeMap<NodeId, Instant>,
    receives_until: BTreeMap<NodeId, Instant>,
}

impl Links {
    /// Seconds until a fetch could begin.
    pub(crate) fn free_in(&self, now: Instant, from: &NodeId, to: &NodeId) -> f64 {
        self.free_at(now, from, to).saturating_duration_since(now).as_secs_f64()
    }

    /// A fetch that takes so long, as soon as both are free.
    pub(crate) fn book(&mut self, now: Instant, from: &NodeId, to: &NodeId, takes: Duration) {
        let until = self.free_at(now, from, to) + takes;
        for (links, node) in [(&mut self.sends_until, from), (&mut self.receives_until, to)] {
            links.retain(|_, until| *until > now);
            links.insert(node.clone(), until);
        }
    }

    fn free_at(&self, now: Instant, from: &NodeId, to: &NodeId) -> Instant {
        let until = |links: &BTreeMap<NodeId, Instant>, node| links.get(node).copied().unwrap_or(now);
        until(&self.sends_until, from).max(until(&self.receives_until, to)).max(now)
    }
}
