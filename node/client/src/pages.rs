//! Copies that the node makes for us, from and to pages of a KV cache on a GPU.
//!
//! The pages are the node's from the request to its answer. There is no deadline: pages that were taken back meanwhile would be read,
//! or written, under somebody else. What ends the wait, besides the answer, is the end of the connection: a daemon that lives keeps
//! it until no copy runs, and one that dies gets a moment for what it had already asked of the device.

use std::sync::Arc;
use std::time::Duration;

use weft_attach::{BLOCKS_PER_MESSAGE_MAX, LoadPages, StorePages, ToEngine, ToNode};
use weft_types::BlockHash;

use crate::LoadedBlock;
use crate::link::{Keepsake, Link};
use crate::store::Stored;

/// As good as none, and still a number: an hour.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

/// How long the device may go on with what a daemon that died had asked of it: copies of a GiB take a tenth of that.
const LOST_GRACE: Duration = Duration::from_secs(1);

/// Has the daemon open our cache, once.
pub(crate) async fn share(link: &Link, keepsake: &Keepsake, deadline: Duration) -> Result<(), String> {
    let ask = async || {
        let Some(cache) = keepsake.cache.lock().clone() else { return Err("no cache was shared".to_owned()) };
        match link.call(&ToNode::ShareCache(Box::new(cache)), deadline.max(OPEN_WAIT)).await {
            Some(ToEngine::CacheShared(shared)) => shared.refused.map_or(Ok(()), Err),
            _ => Err("the daemon did not answer".to_owned()),
        }
    };
    link.shared().get_or_init(ask).await.clone()
}

/// Longest wait for the daemon to open our cache: it pins its memory for the device meanwhile, a third of a second a GiB.
const OPEN_WAIT: Duration = Duration::from_secs(120);

/// Has blocks stored.
pub(crate) async fn store(
    link: &Arc<Link>,
    keepsake: &Keepsake,
    deadline: Duration,
    blocks: &[BlockHash],
    pages: &[u32],
) -> Stored {
    let refused = Stored { refused: blocks.len(), ..Stored::default() };
    if blocks.len() > BLOCKS_PER_MESSAGE_MAX || share(link, keepsake, deadline).await.is_err() {
        return refused;
    }
    let request = ToNode::StorePages(StorePages { blocks: blocks.to_vec(), pages: pages.to_vec() });
    match call(link, &request).await {
        Some(ToEngine::PagesStored(done)) => {
            let (stored, present) = (done.stored as usize, done.present as usize);
            Stored { stored, present, refused: blocks.len().saturating_sub(stored + present) }
        }
        _ => refused,
    }
}

/// Has blocks copied; how many pages came.
pub(crate) async fn load(
    link: &Arc<Link>,
    keepsake: &Keepsake,
    deadline: Duration,
    blocks: &[&LoadedBlock],
    skip: u32,
    pages: &[u32],
) -> usize {
    if blocks.len() > BLOCKS_PER_MESSAGE_MAX || share(link, keepsake, deadline).await.is_err() {
        return 0;
    }
    let blocks = blocks.iter().map(|block| block.hash()).collect();
    match call(link, &ToNode::LoadPages(LoadPages { blocks, skip, pages: pages.to_vec() })).await {
        Some(ToEngine::PagesLoaded(done)) => done.pages as usize,
        _ => 0,
    }
}

async fn call(link: &Link, request: &ToNode) -> Option<ToEngine> {
    let answer = link.call(request, NO_DEADLINE).await;
    if answer.is_none() {
        tokio::time::sleep(LOST_GRACE).await;
    }
    answer
}
