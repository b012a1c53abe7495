//! From block ids to tokens: each id is a run of words, always the same one.

use anyhow::ensure;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use weft_tokens::{ModelFiles, StableTokens};

use super::Row;

/// Stream of the words of a prompt's tail that no id names; named blocks use stream 0.
const TAIL_STREAM: u64 = 1;

/// Expands rows to prompts. The tokens survive as text, so that a prompt is the same sent as ids or as chat.
#[derive(Debug)]
pub(crate) struct Expander {
    words: StableTokens,
    block_tokens: usize,
    seed: u64,
}

impl Expander {
    /// `block_tokens` is the size of the trace's blocks; another `seed` makes other words for the same ids.
    pub(crate) fn new(files: &ModelFiles, block_tokens: u32, seed: u64) -> anyhow::Result<Self> {
        let words = StableTokens::of(files);
        ensure!(
            words.ids().len() >= 256,
            "the tokenizer has {} words that survive as text: 256 are needed for blocks to \
             differ; use another tokenizer",
            words.ids().len()
        );
        Ok(Self { words, block_tokens: block_tokens as usize, seed })
    }

    /// The prompt of row number `number` of its trace.
    pub(crate) fn prompt(&self, number: usize, row: &Row) -> Vec<u32> {
        let length = row.input_length as usize;
        let mut prompt = Vec::with_capacity(length.next_multiple_of(self.block_tokens));
        for id in &row.hash_ids {
            self.run(*id, 0, self.block_tokens, &mut prompt);
        }
        prompt.truncate(length);
        self.run(number as u64, TAIL_STREAM, length - prompt.len(), &mut prompt);
        prompt
    }

    fn run(&self, id: u64, stream: u64, tokens: usize, prompt: &mut Vec<u32>) {
        let mut dice = ChaCha8Rng::seed_from_u64(self.seed ^ id.rotate_left(17));
        dice.set_stream(stream);
        let words = self.words.ids();
        prompt.extend((0..tokens).map(|_| *words.choose(&mut dice).expect("there are 256 words")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::shipped_model;

    fn row(input_length: u32, hash_ids: &[u64]) -> Row {
        let (session_id, turn, think_ms) = (None, 0, 0);
        Row { timestamp: 0, input_length, output_length: 1, hash_ids: hash_ids.to_vec(), session_id, turn, think_ms }
    }

    #[test]
    fn equal_ids_are_equal_tokens_and_the_rest_is_the_rows_own() {
        let files = shipped_model().unwrap();
        let expander = Expander::new(&files, 512, 1).unwrap();
        let (short, long) = (row(600, &[7, 8]), row(1500, &[7, 9]));
        let (a, b) = (expander.prompt(0, &short), expander.prompt(1, &long));
        assert_eq!((a.len(), b.len()), (600, 1500));
        assert_eq!(a[..512], b[..512]);
        assert_ne!(a[512..], b[512..600]);
        let same_ids = expander.prompt(2, &long);
        assert_eq!(same_ids[..1024], b[..1024]);
        assert_ne!(same_ids[1024..], b[1024..], "no id names the tail");
        assert_ne!(Expander::new(&files, 512, 2).unwrap().prompt(0, &short), a, "another seed, other words");
        assert_eq!(files.encode(&files.decode(&b).unwrap()).unwrap(), b, "they survive as text");
    }
}
