//! `weft-index`: reports of one holder each.

use weft_index::{Change, PrefixIndex};
use weft_types::{HolderId, IndexKey};

use crate::backend::{Answer, Backend};
use crate::workload::{Block, Event, Workload};

pub(crate) struct Weft {
    index: PrefixIndex,
    reports: Vec<(HolderId, Vec<Change>)>,
    request: Vec<IndexKey>,
}

impl Weft {
    pub(crate) fn new(workload: &Workload) -> Self {
        let report = |event: &Event| match event {
            Event::Stored { holder, blocks, .. } => {
                (HolderId::new(*holder), blocks.iter().map(|block| Change::Stored(key(block))).collect())
            }
            Event::Removed { holder, blocks } => {
                (HolderId::new(*holder), blocks.iter().map(|block| Change::Removed(key(block))).collect())
            }
        };
        Self {
            index: PrefixIndex::new(),
            reports: workload.events.iter().map(report).collect(),
            request: Vec::new(),
        }
    }
}

fn key(block: &Block) -> IndexKey {
    IndexKey::from_bytes(block.key)
}

impl Backend for Weft {
    fn apply(&mut self) {
        for (holder, changes) in std::mem::take(&mut self.reports) {
            self.index.apply_all(holder, &changes, usize::MAX, |_, _| ());
        }
    }

    fn prepare(&mut self, request: &[Block]) {
        self.request.clear();
        self.request.extend(request.iter().map(key));
    }

    fn lookup(&mut self) -> Answer {
        let mut answer = Answer::default();
        for found in self.index.leading(&self.request) {
            answer.add(found.holder.get(), found.blocks);
        }
        answer
    }
}
