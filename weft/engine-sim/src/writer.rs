//! Stores computed blocks through the node, behind the requests: no answer waits for it.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;
use weft_node_client::NodeClient;
use weft_types::BlockHash;

use crate::kv;

/// Prefixes that may wait to be stored: a few seconds of a busy engine. A full queue skips the store, which costs a later
/// hit and nothing else.
const QUEUE_MAX: usize = 256;

/// The queue to the one task that stores.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Vec<BlockHash>>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn spawn(node: NodeClient) -> Self {
        let (queue, mut prefixes) = mpsc::channel::<Vec<BlockHash>>(QUEUE_MAX);
        let task = tokio::spawn(async move {
            while let Some(blocks) = prefixes.recv().await {
                let stored = node.store(&blocks, |number, slot| kv::fill(&blocks[number], slot)).await;
                debug!(?stored, "stored a prefix");
            }
        });
        Self { queue, task }
    }

    /// Queues blocks; `false` if the queue is full.
    pub(crate) fn store(&self, blocks: &[BlockHash]) -> bool {
        blocks.is_empty() || self.queue.try_send(blocks.to_vec()).is_ok()
    }

    /// Stores what is queued, then ends.
    pub(crate) async fn finish(self) {
        drop(self.queue);
        // A panic of the task aborts the process that runs roles; in tests it has been printed.
        let _ = self.task.await;
    }
}
