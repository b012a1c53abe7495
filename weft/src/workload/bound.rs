//! What an infinite cache would reach: the share of prompt tokens that lie in full blocks seen before, with the block size
//! and the hash that weft uses, on prompts as the engine tokenises them.
//!
//! The last token of a prompt is always computed, so a prompt seen before in full counts up to its last block.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use weft_types::{BlockHasher, BlockSize, IndexKey, ModelKey};

/// Tokens that an infinite cache would spare, of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
}

/// Counts the bound of prompts in the order of their arrival.
#[derive(Debug)]
pub(crate) struct BoundCounter {
    hasher: BlockHasher,
    /// 16 bytes a distinct block; a trace of 100 million distinct tokens needs 25 MB.
    seen: HashSet<IndexKey>,
    bound: Bound,
}

impl Bound {
    /// Cached tokens as a share of all, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.cached_tokens as f64 / self.prompt_tokens.max(1) as f64
    }
}

impl BoundCounter {
    /// Any model key does: only the block size decides what is equal.
    pub(crate) fn new(block_tokens: BlockSize) -> Self {
        let none = String::new;
        let (model, revision, adapter, salt, layout) = (none(), none(), none(), none(), none());
        let hasher = BlockHasher::new(&ModelKey { model, revision, adapter, salt, layout, block_tokens });
        Self { hasher, seen: HashSet::new(), bound: Bound::default() }
    }

    /// The next prompt.
    pub(crate) fn add(&mut self, prompt: &[u32]) {
        let blocks = self.hasher.prefix(prompt);
        let size = self.hasher.block_size().tokens();
        let reusable = prompt.len().saturating_sub(1) / size;
        let leading = blocks.iter().take(reusable).take_while(|block| self.seen.contains(&block.index_key())).count();
        self.bound.prompt_tokens += prompt.len() as u64;
        self.bound.cached_tokens += (leading * size) as u64;
        self.seen.extend(blocks.iter().map(|block| block.index_key()));
    }

    /// The bound so far.
    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leading_full_blocks_short_of_the_last_token_count() {
        let mut counter = BoundCounter::new(BlockSize::DEFAULT);
        let prompt: Vec<u32> = (0..200).collect();
        let mut count = |prompt: &[u32]| {
            let before = counter.bound().cached_tokens;
            counter.add(prompt);
            counter.bound().cached_tokens - before
        };
        assert_eq!(count(&prompt), 0);
        assert_eq!(count(&prompt), 192);
        assert_eq!(count(&prompt[..192]), 128, "the last block is computed for its last token");
        assert_eq!(count(&prompt[1..]), 0, "another prefix");
        assert_eq!(counter.bound().share(), 320.0 / 791.0);
    }
}
