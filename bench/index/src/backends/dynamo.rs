//! Events and requests in the form of dynamo-kv-router.

use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, OverlapScores, RouterEvent,
};

use crate::backend::Answer;
use crate::workload::{Block, Event, Workload};

pub(crate) fn events(workload: &Workload) -> Vec<RouterEvent> {
    (0..).zip(&workload.events).map(|(id, event)| router_event(id, event)).collect()
}

pub(crate) fn request(blocks: &[Block]) -> Vec<LocalBlockHash> {
    blocks.iter().map(|block| LocalBlockHash(block.content)).collect()
}

pub(crate) fn answer(scores: OverlapScores) -> Answer {
    let mut answer = Answer::default();
    for (worker, blocks) in scores.scores {
        answer.add(u32::try_from(worker.worker_id).expect("holders are few"), blocks);
    }
    answer
}

fn router_event(event_id: u64, event: &Event) -> RouterEvent {
    let (holder, data) = match event {
        Event::Stored { holder, parent, blocks } => {
            let stored = KvCacheStoreData {
                parent_hash: parent.map(ExternalSequenceBlockHash),
                start_position: None,
                blocks: blocks.iter().map(stored).collect(),
            };
            (holder, KvCacheEventData::Stored(stored))
        }
        Event::Removed { holder, blocks } => {
            let hashes = blocks.iter().map(|block| ExternalSequenceBlockHash(block.chained));
            (holder, KvCacheEventData::Removed(KvCacheRemoveData { block_hashes: hashes.collect() }))
        }
    };
    RouterEvent::new(u64::from(*holder), KvCacheEvent { event_id, data, dp_rank: 0 })
}

fn stored(block: &Block) -> KvCacheStoredBlockData {
    KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(block.chained),
        tokens_hash: LocalBlockHash(block.content),
        mm_extra_info: None,
    }
}
