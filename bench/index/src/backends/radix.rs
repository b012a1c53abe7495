//! `RadixTree` of dynamo-kv-router: single-threaded, called directly.

use dynamo_kv_router::indexer::RadixTree;
use dynamo_kv_router::protocols::{LocalBlockHash, RouterEvent};

use super::dynamo;
use crate::backend::{Answer, Backend};
use crate::workload::{Block, Workload};

pub(crate) struct Radix {
    tree: RadixTree,
    events: Vec<RouterEvent>,
    request: Vec<LocalBlockHash>,
}

impl Radix {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self { tree: RadixTree::new(), events: dynamo::events(workload), request: Vec::new() }
    }
}

impl Backend for Radix {
    fn apply(&mut self) {
        for event in std::mem::take(&mut self.events) {
            self.tree.apply_event(event).expect("parents are held");
        }
    }

    fn prepare(&mut self, request: &[Block]) {
        self.request = dynamo::request(request);
    }

    fn lookup(&mut self) -> Answer {
        dynamo::answer(self.tree.find_matches(std::mem::take(&mut self.request), false))
    }
}
