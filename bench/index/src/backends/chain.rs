//! `ChainIndex` of kv-index: called directly, a lane map a worker, as its own event lanes do.

use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};

use crate::backend::{Answer, Backend};
use crate::workload::{Block, Event, Workload};

pub(crate) struct Chain {
    index: ChainIndex,
    /// Worker ids by holder, and the map of each.
    lanes: Vec<(u32, ChainBlockMap)>,
    events: Vec<Call>,
    request: Vec<ContentHash>,
    /// Worker id → holder.
    holders: Vec<u32>,
}

enum Call {
    Stored { holder: u32, parent: Option<SequenceHash>, blocks: Vec<StoredBlock> },
    Removed { holder: u32, blocks: Vec<SequenceHash> },
}

impl Chain {
    pub(crate) fn new(workload: &Workload, holders: u32) -> Self {
        let index = ChainIndex::with_max_workers(holders as usize);
        let lane = |holder: u32| {
            let worker = index.intern_worker(&format!("w{holder}")).expect("there is room for every holder");
            (worker, ChainBlockMap::new())
        };
        let lanes: Vec<(u32, ChainBlockMap)> = (0..holders).map(lane).collect();
        let mut names = vec![0; holders as usize];
        for (holder, (worker, _)) in (0..).zip(&lanes) {
            names[*worker as usize] = holder;
        }
        let call = |event: &Event| match event {
            Event::Stored { holder, parent, blocks } => Call::Stored {
                holder: *holder,
                parent: parent.map(SequenceHash),
                blocks: blocks.iter().map(stored).collect(),
            },
            Event::Removed { holder, blocks } => {
                Call::Removed { holder: *holder, blocks: blocks.iter().map(|block| SequenceHash(block.chained)).collect() }
            }
        };
        Self { index, lanes, events: workload.events.iter().map(call).collect(), request: Vec::new(), holders: names }
    }
}

fn stored(block: &Block) -> StoredBlock {
    StoredBlock { seq_hash: SequenceHash(block.chained), content_hash: ContentHash(block.content) }
}

impl Backend for Chain {
    fn apply(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Call::Stored { holder, parent, blocks } => {
                    let (worker, map) = &mut self.lanes[holder as usize];
                    self.index.apply_stored(*worker, &blocks, parent, map).expect("parents are held");
                }
                Call::Removed { holder, blocks } => {
                    let (worker, map) = &mut self.lanes[holder as usize];
                    self.index.apply_removed(*worker, &blocks, map);
                }
            }
        }
    }

    fn prepare(&mut self, request: &[Block]) {
        self.request.clear();
        self.request.extend(request.iter().map(|block| ContentHash(block.content)));
    }

    fn lookup(&mut self) -> Answer {
        let mut answer = Answer::default();
        for (worker, blocks) in self.index.find_matches(&self.request, false).scores {
            answer.add(self.holders[worker as usize], blocks);
        }
        answer
    }
}
