//! Who holds which block, as routers know it: late by a fixed time.

use std::collections::VecDeque;

/// Where a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Device,
    Host,
}

/// A follower's copy. Holdings are prefixes, so that the length of one is found by bisection.
#[derive(Debug)]
pub(crate) struct Index {
    lag_s: f64,
    /// A bit a replica, by block.
    device: Vec<u64>,
    host: Vec<u64>,
    late: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    due_s: f64,
    replica: usize,
    place: Place,
    block: u32,
    stored: bool,
}

impl Index {
    pub(crate) fn new(blocks: usize, lag_s: f64) -> Self {
        Self { lag_s, device: vec![0; blocks], host: vec![0; blocks], late: VecDeque::new() }
    }

    /// These blocks were stored or evicted now.
    pub(crate) fn report(&mut self, now_s: f64, replica: usize, place: Place, blocks: &[u32], stored: bool) {
        for block in blocks {
            let change = Change { due_s: now_s + self.lag_s, replica, place, block: *block, stored };
            match self.lag_s {
                0.0 => self.apply(&change),
                _ => self.late.push_back(change),
            }
        }
    }

    /// What is due by now is known.
    pub(crate) fn catch_up(&mut self, now_s: f64) {
        while self.late.front().is_some_and(|change| change.due_s <= now_s) {
            if let Some(change) = self.late.pop_front() {
                self.apply(&change);
            }
        }
    }

    /// Leading blocks in a replica's device memory.
    pub(crate) fn device(&self, replica: usize, blocks: &[u32]) -> usize {
        blocks.partition_point(|block| self.device[*block as usize] >> replica & 1 == 1)
    }

    /// Leading blocks in its device memory or its host memory.
    pub(crate) fn either(&self, replica: usize, blocks: &[u32]) -> usize {
        blocks.partition_point(|block| {
            let block = *block as usize;
            (self.device[block] | self.host[block]) >> replica & 1 == 1
        })
    }

    fn apply(&mut self, change: &Change) {
        let masks = match change.place {
            Place::Device => &mut self.device,
            Place::Host => &mut self.host,
        };
        let mask = &mut masks[change.block as usize];
        let bit = 1 << change.replica;
        *mask = if change.stored { *mask | bit } else { *mask & !bit };
    }
}
