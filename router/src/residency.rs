//! Who is in the cluster, and who holds which block, as far as the router knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weft_index::Match;
use weft_metadata_client::Follower;
use weft_types::{BlockSize, EndpointId, HolderId, HolderKey, IndexKey, NodeId, Roster};

/// A local copy of the directory. Lookups cost no message.
pub trait Residency: Send + Sync + 'static {
    /// Leading blocks by holder, with the roster they belong to.
    fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>);
    /// Time since it was last known to be right; `None`: it is nobody's copy.
    fn age(&self) -> Option<Duration> {
        None
    }
    /// Changes whenever the roster does.
    fn rosters(&self) -> watch::Receiver<Arc<Roster>>;
}

impl Residency for Follower {
    fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>) {
        Follower::lookup(self, prefix)
    }

    fn age(&self) -> Option<Duration> {
        Some(self.staleness())
    }

    fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster_changes()
    }
}

/// Nobody and nothing: a router with static endpoints only.
#[derive(Debug)]
pub(crate) struct Nowhere(watch::Sender<Arc<Roster>>);

impl Nowhere {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl Residency for Nowhere {
    fn lookup(&self, _prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>) {
        (Vec::new(), Arc::clone(&self.0.borrow()))
    }

    fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.0.subscribe()
    }
}

/// Leading tokens of one prompt, by where they are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    devices: BTreeMap<EndpointId, u32>,
    nodes: Vec<(NodeId, u32)>,
}

impl Holdings {
    /// Several ranks of an endpoint, or several tiers of a node, count as the best of them.
    pub(crate) fn new(matches: &[Match], roster: &Roster, block_size: BlockSize) -> Self {
        let (mut devices, mut nodes): (BTreeMap<_, u32>, BTreeMap<_, u32>) = Default::default();
        for found in matches {
            let tokens = found.blocks.saturating_mul(block_size.get());
            match holder(roster, found.holder) {
                Some(HolderKey::Device { endpoint, .. }) => {
                    let best = devices.entry(endpoint.clone()).or_default();
                    *best = tokens.max(*best);
                }
                Some(HolderKey::Node { node, .. }) => {
                    let best = nodes.entry(node.clone()).or_default();
                    *best = tokens.max(*best);
                }
                None => {}
            }
        }
        Self { devices, nodes: nodes.into_iter().collect() }
    }

    /// In the device memory of an endpoint.
    pub(crate) fn device(&self, endpoint: &EndpointId) -> u32 {
        self.devices.get(endpoint).copied().unwrap_or(0)
    }

    /// In the tiers of each node that has any.
    pub(crate) fn nodes(&self) -> &[(NodeId, u32)] {
        &self.nodes
    }
}

fn holder(roster: &Roster, holder: HolderId) -> Option<&HolderKey> {
    roster.holders.get(&holder).map(|grant| &grant.key)
}

#[cfg(test)]
mod tests {
    use weft_types::{Generation, HolderGrant, Incarnation, Tier};

    use super::*;

    fn roster(keys: Vec<HolderKey>) -> Roster {
        let grants = keys.into_iter().zip(0..).map(|(key, number)| {
            let holder = HolderId::new(number);
            (holder, HolderGrant { key, holder, generation: Generation::new(1), incarnation: Incarnation::new(1) })
        });
        Roster { holders: grants.collect(), ..Roster::default() }
    }

    #[test]
    fn ranks_and_tiers_count_as_the_best_of_them() {
        let (e1, n1, n2, n3) = ("e1", "n1", "n2", "n3");
        let device = |rank| HolderKey::Device { endpoint: e1.parse().unwrap(), rank };
        let node = |name: &str, tier| HolderKey::Node { node: name.parse().unwrap(), tier };
        let keys = vec![
            device(0),
            device(1),
            node(n1, Tier::Host),
            node(n1, Tier::Disk),
            node(n2, Tier::Host),
            node(n3, Tier::Host),
        ];
        let blocks = [2, 1, 3, 5, 7, 6].into_iter().zip(0..);
        let matches: Vec<_> = blocks.map(|(blocks, number)| Match { holder: HolderId::new(number), blocks }).collect();
        let holdings = Holdings::new(&matches, &roster(keys), BlockSize::new(10).unwrap());
        assert_eq!((holdings.device(&e1.parse().unwrap()), holdings.device(&"e2".parse().unwrap())), (20, 0));
        let nodes = [(n1, 50), (n2, 70), (n3, 60)].map(|(node, tokens)| (node.parse().unwrap(), tokens));
        assert_eq!(holdings.nodes(), nodes);
    }
}
