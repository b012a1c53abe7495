//! Who holds what, as a node asks it: the seam between fetching and metadata.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_types::{HolderKey, Incarnation, IndexKey, NodeId, Tier};

/// A peer that holds leading blocks of a prefix in its host tier, on disk, or in both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerHolder {
    /// Which node.
    pub(crate) node: NodeId,
    /// Where it serves blocks.
    pub(crate) bulk: SocketAddr,
    /// How many leading blocks.
    pub(crate) blocks: usize,
}

/// Answers who holds leading blocks of a prefix, except this node.
pub(crate) trait Directory: fmt::Debug + Send + Sync {
    /// Peers, in no particular order.
    fn holders<'a>(
        &'a self,
        prefix: &'a [IndexKey],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<PeerHolder>, MetadataError>>;
}

/// The directory of the metadata group. Addresses of nodes are remembered, and asked for again when an unknown life of one
/// turns up.
#[derive(Debug)]
pub(crate) struct MetadataDirectory {
    metadata: MetadataClient,
    me: NodeId,
    addresses: Mutex<Arc<Addresses>>,
}

type Addresses = BTreeMap<NodeId, (Incarnation, SocketAddr)>;

impl MetadataDirectory {
    /// Asks `metadata` on behalf of the node `me`.
    pub(crate) fn new(metadata: MetadataClient, me: NodeId) -> Self {
        Self { metadata, me, addresses: Mutex::default() }
    }

    async fn ask(&self, prefix: &[IndexKey], deadline: Duration) -> Result<Vec<PeerHolder>, MetadataError> {
        let matches = self.metadata.lookup(prefix, deadline).await?;
        let peers: Vec<_> = matches
            .into_iter()
            .filter_map(|(grant, blocks)| match grant.key {
                HolderKey::Node { node, tier: Tier::Host | Tier::Disk } if node != self.me => {
                    Some((node, grant.incarnation, blocks))
                }
                _ => None,
            })
            .collect();
        if peers.is_empty() {
            return Ok(Vec::new());
        }
        let mut addresses = Arc::clone(&self.addresses.lock());
        if peers.iter().any(|(node, incarnation, _)| address(&addresses, node, *incarnation).is_none()) {
            let roster = self.metadata.roster(deadline).await?;
            let nodes = roster.nodes.into_iter().map(|(node, spec)| (node, (spec.incarnation, spec.bulk)));
            addresses = Arc::new(nodes.collect());
            *self.addresses.lock() = Arc::clone(&addresses);
        }
        // A node's tiers are asked as one: it counts as the best of them.
        let mut best = BTreeMap::<NodeId, PeerHolder>::new();
        for (node, incarnation, blocks) in peers {
            let (Some(bulk), blocks) = (address(&addresses, &node, incarnation), blocks as usize) else { continue };
            let known = best.entry(node.clone()).or_insert(PeerHolder { node, bulk, blocks });
            known.blocks = known.blocks.max(blocks);
        }
        Ok(best.into_values().collect())
    }
}

fn address(addresses: &Addresses, node: &NodeId, incarnation: Incarnation) -> Option<SocketAddr> {
    addresses.get(node).filter(|(life, _)| *life == incarnation).map(|(_, bulk)| *bulk)
}

impl Directory for MetadataDirectory {
    fn holders<'a>(
        &'a self,
        prefix: &'a [IndexKey],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<PeerHolder>, MetadataError>> {
        Box::pin(self.ask(prefix, deadline))
    }
}
