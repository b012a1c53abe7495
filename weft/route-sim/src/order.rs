//! Blocks from the least to the most recently used, by their number: an intrusive list, so that every step is O(1).

/// No neighbour.
const END: u32 = u32::MAX;
/// Not in the list.
const OUT: u32 = u32::MAX - 1;

/// A list of blocks without duplicates.
#[derive(Debug)]
pub(crate) struct Order {
    /// Older and newer neighbour, by block.
    links: Vec<(u32, u32)>,
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Order {
    /// For blocks below `blocks`.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { links: vec![(OUT, OUT); blocks], oldest: END, newest: END, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, block: u32) -> bool {
        self.links[block as usize].0 != OUT
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != END).then_some(self.oldest)
    }

    /// Appends a block that is not in it, as the most recently used.
    pub(crate) fn push(&mut self, block: u32) {
        let before = std::mem::replace(&mut self.newest, block);
        self.links[block as usize] = (before, END);
        match before {
            END => self.oldest = block,
            before => self.links[before as usize].1 = block,
        }
        self.len += 1;
    }

    /// Takes a block out, if it is in.
    pub(crate) fn remove(&mut self, block: u32) -> bool {
        let (older, newer) = std::mem::replace(&mut self.links[block as usize], (OUT, OUT));
        if older == OUT {
            return false;
        }
        match older {
            END => self.oldest = newer,
            older => self.links[older as usize].1 = newer,
        }
        match newer {
            END => self.newest = older,
            newer => self.links[newer as usize].0 = older,
        }
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_in_the_order_they_were_last_used() {
        let mut order = Order::new(5);
        for block in [3, 0, 4] {
            order.push(block);
        }
        assert!(order.remove(3) && !order.remove(3));
        order.push(3);
        let mut left = Vec::new();
        while let Some(block) = order.oldest() {
            order.remove(block);
            left.push(block);
        }
        assert_eq!((left, order.len()), (vec![0, 4, 3], 0));
    }
}
