//! The node whose reports are lost, with an engine that stores in it: both real, in this process.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tempfile::TempDir;
use weft_metadata_client::MetadataClient;
use weft_node::Node;
use weft_node_client::NodeClient;
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, IndexKey, Role};

use super::STORE_BLOCKS;
use crate::bench::engine::attach_config;
use crate::bench::members::Members;

/// Its name.
pub(crate) const NODE: &str = "node-1";
/// Its memory.
const HOST_MEMORY: &str = "256MiB";
/// Bytes of a block: a page, since it is numbers of blocks that count here.
const BLOCK_BYTES: usize = 4096;
/// Blocks that may be held: more than memory has room for, 65,536.
const BLOCKS_MAX: usize = 66_560;
/// Longest wait for the node.
const DEADLINE: Duration = Duration::from_secs(10);

/// Node, engine, and what was stored last.
pub(crate) struct Subject {
    node: Node,
    engine: NodeClient,
    router: MetadataClient,
    stored: u64,
    /// The newest stores, oldest first.
    recent: VecDeque<Vec<BlockHash>>,
    _folder: TempDir,
}

impl Subject {
    pub(crate) async fn start(members: &Members, metadata: SocketAddr, anti_entropy: Duration) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = json!({
            "name": NODE,
            "fabric": "127.0.0.1:0",
            "bulk": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "socket": folder.path().join("socket/node.sock"),
            "state_dir": folder.path().join("state"),
            "host_memory": HOST_MEMORY,
            "metadata": [metadata],
            "identity": members.identity(Role::Node, NODE)?,
            "anti_entropy": format!("{}s", anti_entropy.as_secs()),
        });
        let node = Node::bind(serde_json::from_value(config)?, &Telemetry::for_tests()).await?;
        let engine = NodeClient::attach(attach_config(folder.path(), BLOCK_BYTES, DEADLINE)?).await?;
        let router = MetadataClient::new(members.caller(Role::Router, "router")?, members.addrs());
        Ok(Self { node, engine, router, stored: 0, recent: VecDeque::new(), _folder: folder })
    }

    /// Stores until blocks make room for others.
    pub(crate) async fn fill(&mut self) -> anyhow::Result<()> {
        for _ in 0..BLOCKS_MAX / STORE_BLOCKS {
            self.store().await?;
        }
        Ok(())
    }

    /// Stores one prompt's blocks, never stored before.
    pub(crate) async fn store(&mut self) -> anyhow::Result<()> {
        let blocks: Vec<_> = (0..STORE_BLOCKS as u64).map(|block| hash(self.stored + block)).collect();
        let outcome = self.engine.store(&blocks, |_, slot| slot.fill(1)).await;
        ensure!(outcome.stored == STORE_BLOCKS, "only {outcome:?} of {STORE_BLOCKS} blocks were stored");
        self.stored += STORE_BLOCKS as u64;
        self.recent.push_back(blocks);
        if self.recent.len() > BLOCKS_MAX / STORE_BLOCKS {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// What the node holds, by asking it for each block.
    pub(crate) async fn held(&self) -> anyhow::Result<Vec<IndexKey>> {
        let mut held = Vec::new();
        for blocks in &self.recent {
            for block in self.held_of(blocks).await {
                held.push(block.index_key());
            }
        }
        ensure!(held.len() < self.recent.len() * STORE_BLOCKS, "the node holds more than is asked for");
        Ok(held)
    }

    /// Blocks that are held and not listed, or listed and not held, by looking up each of them.
    pub(crate) async fn different_blocks(&self) -> anyhow::Result<u64> {
        let mut different = 0;
        for blocks in &self.recent {
            let held = self.held_of(blocks).await;
            for block in blocks {
                let listed = !self.router.lookup(&[block.index_key()], DEADLINE).await?.is_empty();
                different += u64::from(listed != held.contains(block));
            }
        }
        Ok(different)
    }

    pub(crate) async fn stop(self) {
        self.engine.detach().await;
        self.node.drain(DEADLINE).await;
    }

    async fn held_of(&self, blocks: &[BlockHash]) -> Vec<BlockHash> {
        let (mut held, mut rest) = (Vec::new(), blocks);
        while !rest.is_empty() {
            let found = self.engine.load(rest, DEADLINE).await.len();
            held.extend_from_slice(&rest[..found]);
            // The first that is not here, if any, is passed over.
            rest = &rest[(found + 1).min(rest.len())..];
        }
        held
    }
}

fn hash(number: u64) -> BlockHash {
    BlockHash::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}
