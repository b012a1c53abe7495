//! Device memory of an engine, as vLLM keeps it: blocks with reference counts, free ones least recently used first, and of
//! one prompt the last block first, so that what is left is always a prefix.

use crate::order::Order;

/// A device memory. Blocks are named by number; those of running answers are only counted.
#[derive(Debug)]
pub(crate) struct Device {
    capacity: usize,
    /// References, by block; of those that are there.
    refs: Vec<u32>,
    /// There, with no reference.
    free: Order,
    pinned: usize,
    /// Without a name yet: being computed, or of an answer.
    unnamed: usize,
}

/// Blocks that one request holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Leading blocks of the prompt that are named here.
    pub(crate) named: usize,
    unnamed: usize,
}

impl Device {
    pub(crate) fn new(capacity: usize, blocks: usize) -> Self {
        Self { capacity, refs: vec![0; blocks], free: Order::new(blocks), pinned: 0, unnamed: 0 }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Blocks that cannot be evicted.
    pub(crate) fn used(&self) -> usize {
        self.pinned + self.unnamed
    }

    pub(crate) fn contains(&self, block: u32) -> bool {
        self.refs[block as usize] > 0 || self.free.contains(block)
    }

    /// Somebody uses it.
    pub(crate) fn is_pinned(&self, block: u32) -> bool {
        self.refs[block as usize] > 0
    }

    /// Leading blocks that are there.
    pub(crate) fn leading(&self, blocks: &[u32]) -> usize {
        blocks.partition_point(|block| self.contains(*block))
    }

    /// Takes the leading `hit` blocks of a prompt and room for `total` blocks in all; evicted blocks go to `evicted`.
    /// `None`, and nothing is changed, if there is no room.
    pub(crate) fn admit(&mut self, prompt: &[u32], hit: usize, total: usize, evicted: &mut Vec<u32>) -> Option<Held> {
        let hits = &prompt[..hit];
        let newly_pinned = hits.iter().filter(|block| !self.is_pinned(**block)).count();
        let unnamed = total.saturating_sub(hit);
        if self.used() + newly_pinned + unnamed > self.capacity {
            return None;
        }
        for block in hits {
            self.pin(*block);
        }
        self.unnamed += unnamed;
        while self.used() + self.free.len() > self.capacity {
            let victim = self.free.oldest().expect("what is over the capacity and not in use is free");
            self.free.remove(victim);
            evicted.push(victim);
        }
        Some(Held { named: hit, unnamed })
    }

    /// The prompt's blocks are computed: they get their names. New ones go to `stored`.
    pub(crate) fn name(&mut self, held: &mut Held, prompt: &[u32], stored: &mut Vec<u32>) {
        for block in &prompt[held.named..] {
            if !self.contains(*block) {
                stored.push(*block);
            }
            self.pin(*block);
            self.unnamed -= 1;
            held.unnamed -= 1;
        }
        held.named = prompt.len();
    }

    /// The request ended.
    pub(crate) fn release(&mut self, held: &Held, prompt: &[u32]) {
        self.unnamed -= held.unnamed;
        for block in prompt[..held.named].iter().rev() {
            let refs = &mut self.refs[*block as usize];
            *refs -= 1;
            if *refs == 0 {
                self.pinned -= 1;
                self.free.push(*block);
            }
        }
    }

    fn pin(&mut self, block: u32) {
        let refs = &mut self.refs[block as usize];
        if *refs == 0 {
            self.free.remove(block);
            self.pinned += 1;
        }
        *refs += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a request of these blocks and `answer` further ones to its end.
    fn run(device: &mut Device, prompt: &[u32], answer: usize) -> (usize, Vec<u32>) {
        let (mut evicted, mut stored) = (Vec::new(), Vec::new());
        let hit = device.leading(prompt);
        let mut held = device.admit(prompt, hit, prompt.len() + answer, &mut evicted).unwrap();
        device.name(&mut held, prompt, &mut stored);
        device.release(&held, prompt);
        (hit, evicted)
    }

    #[test]
    fn the_end_of_the_oldest_prompt_is_evicted_first() {
        let mut device = Device::new(6, 20);
        assert_eq!(run(&mut device, &[0, 1, 2], 1), (0, vec![]));
        assert_eq!(run(&mut device, &[0, 3, 4], 0), (1, vec![]), "the answer's block is gone");
        assert_eq!(run(&mut device, &[5, 6], 1), (0, vec![2, 1]));
        assert_eq!(run(&mut device, &[0, 3, 4], 0), (3, vec![]));
        assert_eq!(device.used(), 0);
    }

    #[test]
    fn what_is_in_use_is_not_evicted() {
        let (mut device, mut evicted) = (Device::new(4, 20), Vec::new());
        let held = device.admit(&[0, 1, 2], 0, 3, &mut evicted).unwrap();
        assert!(device.admit(&[3, 4], 0, 2, &mut evicted).is_none(), "one block is left");
        device.release(&held, &[0, 1, 2]);
        assert!(device.admit(&[3, 4], 0, 2, &mut evicted).is_some());
    }
}
