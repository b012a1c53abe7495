//! Messages for a node that copies from and to an engine's KV cache by itself, over handles of the GPU's driver.
//!
//! Blocks go by their hashes and the engine's numbers of their pages, as many a block as the cache says. Before each request the engine
//! records its event on its stream; the node waits for it. Requests have no deadline: as long as none is answered, and the
//! connection stands, the pages are the node's.

use serde::{Deserialize, Serialize};
use weft_types::BlockHash;

use crate::message::hashes;

/// An engine's KV cache on a GPU, for the node to open and copy from and to by itself: handles of the driver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedCache {
    /// The device's UUID.
    pub device: [u8; 16],
    /// Handle of an event, 64 bytes: recorded on the engine's stream before each request that names pages.
    pub ready: Vec<u8>,
    /// Handles of the allocations that the cache lies in, 64 bytes each.
    pub allocations: Vec<Vec<u8>>,
    /// Where each layer begins: number of its allocation, and offset.
    pub layers: Vec<(u32, u64)>,
    /// From one page of a layer to the next.
    pub page_stride: u64,
    /// Bytes of a page in one layer.
    pub page_bytes: u64,
    /// Pages of a block.
    pub block_pages: u32,
    /// Pages there are.
    pub pages: u32,
}

/// Answer to [`SharedCache`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CacheShared {
    /// Why the node does not copy by itself; the engine does then. `None`: it does.
    pub refused: Option<String>,
}

/// Asks the node to store blocks it lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StorePages {
    /// In the order of the prefix.
    #[serde(with = "hashes")]
    pub blocks: Vec<BlockHash>,
    /// Pages of all of them.
    pub pages: Vec<u32>,
}

/// Answer to [`StorePages`]: how many blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PagesStored {
    /// Written now.
    pub stored: u32,
    /// Here already.
    pub present: u32,
}

/// Asks the node to copy blocks that the engine has pinned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadPages {
    /// In the order of the prefix.
    #[serde(with = "hashes")]
    pub blocks: Vec<BlockHash>,
    /// Pages of the first block that are not wanted.
    pub skip: u32,
    /// Pages behind those.
    pub pages: Vec<u32>,
}

/// Answer to [`LoadPages`]: how many pages are there, from the first; whatever the others hold now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PagesLoaded {
    /// Pages.
    pub pages: u32,
}
