//! Which peer to ask: the one with most, least busy, and not broken.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weft_types::NodeId;

use crate::breaker::Breaker;
use crate::directory::PeerHolder;

/// What is known of peers, and of the directory. A peer of which there is nothing to know takes no entry, so that the table
/// is bounded by the flights at once and the peers that failed.
#[derive(Debug)]
pub(crate) struct Peers {
    pause: Duration,
    directory: Mutex<Breaker>,
    peers: Mutex<HashMap<NodeId, State>>,
}

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    in_flight: usize,
}

/// A fetch from a peer, while it lasts.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    peers: &'a Peers,
    node: NodeId,
}

impl Peers {
    /// Pauses begin at `pause`.
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, directory: Mutex::default(), peers: Mutex::default() }
    }

    /// Takes the best of the holders out of the list: most leading blocks, then fewest fetches under way. `None` when those
    /// that are left failed a moment ago.
    pub(crate) fn best(&self, holders: &mut Vec<PeerHolder>) -> Option<PeerHolder> {
        let now = Instant::now();
        let peers = self.peers.lock();
        let open = |holder: &PeerHolder| peers.get(&holder.node).is_none_or(|state| state.breaker.allows(now));
        let busy = |holder: &PeerHolder| peers.get(&holder.node).map_or(0, |state| state.in_flight);
        let best = holders
            .iter()
            .enumerate()
            .filter(|(_, holder)| open(holder))
            .max_by_key(|(_, holder)| (holder.blocks, std::cmp::Reverse(busy(holder))))
            .map(|(position, _)| position)?;
        Some(holders.swap_remove(best))
    }

    /// A fetch begins.
    pub(crate) fn under_way(&self, node: &NodeId) -> UnderWay<'_> {
        self.change(node, |state| state.in_flight += 1);
        UnderWay { peers: self, node: node.clone() }
    }

    /// It worked.
    pub(crate) fn succeeded(&self, node: &NodeId) {
        self.change(node, |state| state.breaker.succeeded());
    }

    /// It did not.
    pub(crate) fn failed(&self, node: &NodeId) {
        self.change(node, |state| state.breaker.failed(Instant::now(), self.pause));
    }

    /// Whether to ask the directory.
    pub(crate) fn directory_allows(&self) -> bool {
        self.directory.lock().allows(Instant::now())
    }

    /// It answered, or did not.
    pub(crate) fn directory_answered(&self, answered: bool) {
        let mut breaker = self.directory.lock();
        match answered {
            true => breaker.succeeded(),
            false => breaker.failed(Instant::now(), self.pause),
        }
    }

    fn change(&self, node: &NodeId, change: impl FnOnce(&mut State)) {
        let mut peers = self.peers.lock();
        let state = peers.entry(node.clone()).or_default();
        change(state);
        if state.in_flight == 0 && state.breaker.is_untouched() {
            peers.remove(node);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.peers.change(&self.node, |state| state.in_flight -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(node: &str, blocks: usize) -> PeerHolder {
        PeerHolder { node: node.parse().unwrap(), bulk: "127.0.0.1:1".parse().unwrap(), blocks }
    }

    #[test]
    fn the_best_peer_has_most_then_is_least_busy_and_did_not_just_fail() {
        let peers = Peers::new(Duration::from_secs(60));
        let all = || vec![holder("a", 3), holder("b", 5), holder("c", 5)];
        let under_way = peers.under_way(&"c".parse().unwrap());
        assert_eq!(peers.best(&mut all()), Some(holder("b", 5)));
        peers.failed(&"b".parse().unwrap());
        let mut holders = all();
        assert_eq!(peers.best(&mut holders), Some(holder("c", 5)));
        assert_eq!(peers.best(&mut holders), Some(holder("a", 3)));
        assert_eq!(peers.best(&mut holders), None, "only b is left, and it failed");
        drop(under_way);
        peers.succeeded(&"b".parse().unwrap());
        assert!(peers.peers.lock().is_empty(), "nothing is left to know");
    }
}
