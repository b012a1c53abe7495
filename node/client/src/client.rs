//! The client: which link is current, and what its callers see of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_attach::{BLOCKS_PER_MESSAGE_MAX, Detach, Load, Region, SharedCache, ToEngine, ToNode};
use weft_types::{BlockHash, Contract, EndpointId, Incarnation};

use crate::link::{Keepsake, Link};
use crate::pages;
use crate::store::{self, Fill, Stored};
use crate::supervisor::supervise;
use crate::{AttachError, LoadedBlock};

/// How to attach.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// The node's unix socket.
    pub socket: PathBuf,
    /// Our name, by configuration.
    pub endpoint: EndpointId,
    /// Base URL of our OpenAI API, as routers reach it.
    pub url: String,
    /// Boot counter of this engine.
    pub incarnation: Incarnation,
    /// What we bring.
    pub contract: Contract,
    /// Longest wait for any answer of the daemon but a load's, and the welcome, which may take five seconds.
    pub deadline: Duration,
}

/// Attached engine. Clone is cheap. When the daemon goes, every load is a miss and every store a no-op until it is back:
/// the client re-attaches by itself, and tells the new daemon what the device tier holds.
///
/// Dropping the last clone closes the connection; blocks that are still held stay readable.
#[derive(Clone, Debug)]
pub struct NodeClient {
    link: Arc<ArcSwapOption<Link>>,
    keepsake: Arc<Keepsake>,
    deadline: Duration,
    stop: CancellationToken,
    _stop_when_dropped: Arc<DropGuard>,
}

impl NodeClient {
    /// Attaches once. Afterwards it keeps itself attached, by a task of the current tokio runtime.
    ///
    /// # Errors
    /// The daemon is not there, refuses, or hands over what cannot be mapped.
    pub async fn attach(config: AttachConfig) -> Result<Self, AttachError> {
        let keepsake = Arc::<Keepsake>::default();
        let link = Link::open(&config, &keepsake).await?;
        let link = Arc::new(ArcSwapOption::new(Some(link)));
        let stop = CancellationToken::new();
        let deadline = config.deadline;
        tokio::spawn(supervise(config, Arc::clone(&keepsake), Arc::downgrade(&link), stop.clone()));
        let guard = Arc::new(stop.clone().drop_guard());
        Ok(Self { link, keepsake, deadline, stop, _stop_when_dropped: guard })
    }

    /// Whether the daemon is there now.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.live().is_some()
    }

    /// Pins the longest leading run of `blocks` that the node has or can fetch before the deadline. Never an error: a miss
    /// is an empty answer. Of a prefix beyond 16,384 blocks only so many are asked for.
    pub async fn load(&self, blocks: &[BlockHash], deadline: Duration) -> Vec<LoadedBlock> {
        let Some(link) = self.live().filter(|_| !blocks.is_empty()) else { return Vec::new() };
        let blocks = &blocks[..blocks.len().min(BLOCKS_PER_MESSAGE_MAX)];
        // The answer has to travel: the node gets a little less time than we wait.
        let node_deadline = deadline - (deadline / 8).min(Duration::from_millis(5));
        let deadline_us = u64::try_from(node_deadline.as_micros()).unwrap_or(u64::MAX);
        let request = ToNode::Load(Load { blocks: blocks.to_vec(), deadline_us });
        let Some(ToEngine::Loaded(loaded)) = link.call(&request, deadline).await else { return Vec::new() };
        let mut run = Vec::with_capacity(loaded.blocks.len());
        let mut answers = loaded.blocks.into_iter();
        for (hash, block) in blocks.iter().zip(answers.by_ref()) {
            match link.region().read(block.slot.slot) {
                Ok(reader) => run.push(LoadedBlock::new(Arc::clone(&link), reader, block.slot, *hash, block.source)),
                Err(error) => {
                    tracing::error!(%error, "the daemon lets us read what we are writing: taken as a miss");
                    link.release(block.slot);
                    break;
                }
            }
        }
        answers.for_each(|block| link.release(block.slot));
        run
    }

    /// Stores the blocks the node lacks: reserve → `fill(position in blocks, slot bytes)` → commit with checksum. `blocks`
    /// is a prefix, or a run of one; with the first block that is refused the rest is.
    ///
    /// `fill` runs inside this future, once for each block that is written, and must write every byte.
    pub async fn store<F: FnMut(usize, &mut [u8]) + Send>(&self, blocks: &[BlockHash], mut fill: F) -> Stored {
        self.store_by(blocks, &mut Fill::Each(&mut fill)).await
    }

    /// As [`Self::store`], for who copies many blocks at once: `fill` gets a batch of positions and slots, and says whether it
    /// wrote every byte of all. If not, they and the rest are refused.
    pub async fn store_together<F: FnMut(&mut [(usize, &mut [u8])]) -> bool + Send>(
        &self,
        blocks: &[BlockHash],
        mut fill: F,
    ) -> Stored {
        self.store_by(blocks, &mut Fill::Together(&mut fill)).await
    }

    async fn store_by(&self, blocks: &[BlockHash], fill: &mut Fill<'_>) -> Stored {
        match self.live().filter(|link| !link.is_ending()) {
            Some(link) => store::store(&link, blocks, fill, self.deadline).await,
            None => Stored { refused: blocks.len(), ..Stored::default() },
        }
    }

    /// The memory shared with the daemon that is there now: for who registers it with a device.
    #[must_use]
    pub fn region(&self) -> Option<Arc<Region>> {
        self.live().map(|link| Arc::clone(link.region()))
    }

    /// Has the node copy from and to a KV cache of ours by itself from now on, this daemon and those after it.
    ///
    /// # Errors
    /// This one does not: why.
    pub async fn share_cache(&self, cache: SharedCache) -> Result<(), String> {
        *self.keepsake.cache.lock() = Some(cache);
        let link = self.live().ok_or_else(|| "the daemon is not there".to_owned())?;
        pages::share(&link, &self.keepsake, self.deadline).await
    }

    /// Has the node store blocks from pages of the cache that was shared; the engine's event was recorded. Without a deadline: the
    /// pages are the node's until this returns.
    pub async fn store_pages(&self, blocks: &[BlockHash], pages: &[u32]) -> Stored {
        let Some(link) = self.live().filter(|link| !link.is_ending()) else {
            return Stored { refused: blocks.len(), ..Stored::default() };
        };
        pages::store(&link, &self.keepsake, self.deadline, blocks, pages).await
    }

    /// Has the node copy loaded blocks into pages of the cache that was shared, but for the first `skip` of the first block; how many
    /// pages came, from the first. The engine's event was recorded. Without a deadline, as [`Self::store_pages`].
    pub async fn load_pages(&self, blocks: &[&LoadedBlock], skip: u32, pages: &[u32]) -> usize {
        let Some(link) = self.live() else { return 0 };
        pages::load(&link, &self.keepsake, self.deadline, blocks, skip, pages).await
    }

    /// Reports changes of this engine's device tier (rank 0), in order; never waits. What is held is remembered, up to a
    /// million blocks, and told again to a daemon that was restarted.
    pub fn device_changed(&self, stored: &[BlockHash], removed: &[BlockHash]) {
        self.keepsake.device.lock().change(stored, removed);
        self.keepsake.device_changed.notify_one();
    }

    /// Detaches properly: the endpoint leaves the roster, and the client stays detached. Blocks still held stay readable.
    pub async fn detach(&self) {
        if let Some(link) = self.live() {
            link.end_soon();
            drop(link.call(&ToNode::Detach(Detach {}), self.deadline).await);
        }
        self.stop.cancel();
    }

    fn live(&self) -> Option<Arc<Link>> {
        self.link.load_full().filter(|link| !link.closed().is_cancelled() && !link.is_paused())
    }
}
