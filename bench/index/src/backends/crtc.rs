//! `ConcurrentRadixTreeCompressed` of dynamo-kv-router.
//!
//! Its events go through a queue to a worker loop. Here the loop runs on the measured thread over a queue that is already
//! full, so that it never waits and pays nothing for the sender.

use dynamo_kv_router::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::{SyncIndexer, WorkerTask};
use dynamo_kv_router::protocols::LocalBlockHash;

use super::dynamo;
use crate::backend::{Answer, Backend};
use crate::workload::{Block, Workload};

pub(crate) struct Crtc {
    tree: ConcurrentRadixTreeCompressed,
    queue: Option<flume::Receiver<WorkerTask>>,
    request: Vec<LocalBlockHash>,
}

impl Crtc {
    pub(crate) fn new(workload: &Workload) -> Self {
        let (sender, queue) = flume::unbounded();
        let events = dynamo::events(workload).into_iter().map(WorkerTask::Event);
        for task in events.chain([WorkerTask::Terminate]) {
            sender.send(task).expect("the receiver is here");
        }
        Self { tree: ConcurrentRadixTreeCompressed::new(), queue: Some(queue), request: Vec::new() }
    }
}

impl Backend for Crtc {
    fn apply(&mut self) {
        let queue = self.queue.take().expect("events are applied once");
        self.tree.worker(queue, None).expect("the worker ends at Terminate");
    }

    fn prepare(&mut self, request: &[Block]) {
        self.request = dynamo::request(request);
    }

    fn lookup(&mut self) -> Answer {
        dynamo::answer(self.tree.find_matches(&self.request, false))
    }
}
