//! Nodes that fill the directory and then move on: each holds a window of its own run of blocks.

use std::time::Duration;

use tokio::task::JoinSet;
use weft_index::Change;
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::LookupResponse;
use weft_types::{HolderId, IndexKey, Role};

use crate::bench::holder::{Holder, key};
use crate::bench::members::Members;

/// Nodes.
const NODES: usize = 32;
/// Changes in a report.
const CHANGES: u64 = 4096;
/// Blocks of a prefix that is looked up.
const PREFIX: u64 = 128;
/// Longest wait for an acknowledgement.
const DEADLINE: Duration = Duration::from_secs(60);

/// All of them.
pub(crate) struct Fill(Vec<Node>);

/// One node: it holds the blocks numbered from `first` up to `end`.
struct Node {
    holder: Holder,
    place: usize,
    first: u64,
    end: u64,
}

/// A lookup whose answer is known.
pub(crate) struct Probe {
    pub(crate) prefix: Vec<IndexKey>,
    /// Who holds how much of it; nobody else holds any.
    expected: Option<(HolderId, u32)>,
}

impl Fill {
    /// Joins the nodes and stores `blocks` in all.
    pub(crate) async fn start(members: &Members, blocks: u64) -> anyhow::Result<Self> {
        let mut filling = JoinSet::new();
        for place in 0..NODES {
            let name = format!("node-{place}");
            let client = MetadataClient::new(members.caller(Role::Node, &name)?, members.addrs());
            filling.spawn(async move {
                let holder = Holder::join(client, &name, DEADLINE).await?;
                let mut node = Node { holder, place, first: 0, end: 0 };
                let share = share(blocks, place);
                while node.end < share {
                    node.store(CHANGES.min(share - node.end)).await?;
                }
                anyhow::Ok(node)
            });
        }
        Ok(Self(filling.join_all().await.into_iter().collect::<Result<_, _>>()?))
    }

    /// Every node moves on by one report.
    pub(crate) async fn advance(&mut self) -> anyhow::Result<()> {
        futures_util::future::try_join_all(self.0.iter_mut().map(|node| node.advance(CHANGES / 2))).await.map(drop)
    }

    /// And by one block, several times: nobody looks for these.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        for _ in 0..4 {
            self.0[0].advance(1).await?;
        }
        Ok(())
    }

    /// The newest blocks of each node, then its oldest, some of its middle, and what it let go of last.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let of = |at: fn(&Node) -> u64| self.0.iter().map(move |node| node.probe(at(node)));
        // The first node's last blocks were its last reports, and may not be known to be committed.
        let newest = of(|node| node.end - PREFIX - 8);
        newest
            .chain(of(|node| node.first))
            .chain(of(|node| (node.first + node.end) / 2))
            .chain(of(|node| node.first - 8))
            .collect()
    }
}

impl Node {
    async fn store(&mut self, blocks: u64) -> anyhow::Result<()> {
        let stored = (self.end..self.end + blocks).map(|block| Change::Stored(key(self.place, block)));
        self.holder.report(stored.collect()).await?;
        self.end += blocks;
        Ok(())
    }

    async fn advance(&mut self, blocks: u64) -> anyhow::Result<()> {
        let stored = (self.end..self.end + blocks).map(|block| Change::Stored(key(self.place, block)));
        let removed = (self.first..self.first + blocks).map(|block| Change::Removed(key(self.place, block)));
        self.holder.report(stored.chain(removed).collect()).await?;
        (self.first, self.end) = (self.first + blocks, self.end + blocks);
        Ok(())
    }

    /// The prefix that begins at this block: all of it is held if its first block is.
    fn probe(&self, at: u64) -> Probe {
        let prefix = (at..at + PREFIX).map(|block| key(self.place, block)).collect();
        let held = (self.first..self.end).contains(&at).then_some((self.holder.grant.holder, PREFIX as u32));
        Probe { prefix, expected: held }
    }
}

impl Probe {
    pub(crate) fn is_answered_by(&self, answer: &LookupResponse) -> bool {
        let matches = answer.matches.iter().map(|found| (found.grant.holder, found.blocks));
        matches.eq(self.expected)
    }
}

/// What a node holds of all blocks.
fn share(blocks: u64, place: usize) -> u64 {
    let (place, nodes) = (place as u64, NODES as u64);
    blocks * (place + 1) / nodes - blocks * place / nodes
}

#[cfg(test)]
mod tests {
    use weft_metadata_proto::v1::HolderMatch;
    use weft_types::{Generation, HolderGrant, HolderKey, Incarnation, Tier};

    use super::*;

    #[test]
    fn all_blocks_are_shared_out() {
        for blocks in [0, 1, 31, 5_000_000, 5_000_007] {
            assert_eq!((0..NODES).map(|place| share(blocks, place)).sum::<u64>(), blocks);
        }
    }

    #[test]
    fn an_answer_is_right_only_if_it_names_the_holder_and_all_that_it_holds() {
        let answer = |found: &[(u32, u32)]| {
            let found = found.iter().map(|(holder, blocks)| {
                let key = HolderKey::Node { node: "n".parse().unwrap(), tier: Tier::Host };
                let (generation, incarnation) = (Generation::new(1), Incarnation::new(1));
                let grant = HolderGrant { holder: HolderId::new(*holder), key, generation, incarnation };
                HolderMatch { grant, blocks: *blocks }
            });
            LookupResponse { applied: 1, matches: found.collect() }
        };
        let held = Probe { prefix: vec![], expected: Some((HolderId::new(7), 128)) };
        assert!(held.is_answered_by(&answer(&[(7, 128)])));
        for wrong in [&[][..], &[(7, 127)], &[(8, 128)], &[(7, 128), (8, 1)]] {
            assert!(!held.is_answered_by(&answer(wrong)), "{wrong:?}");
        }
        let gone = Probe { prefix: vec![], expected: None };
        assert!(gone.is_answered_by(&answer(&[])) && !gone.is_answered_by(&answer(&[(7, 1)])));
    }
}
