//! What the simulated model says: a stable function of the prompt.
//!
//! Tokens are drawn from those that survive as text, so that a client that sends an answer back as the next turn of its
//! chat sends the very tokens that were cached.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use weft_tokens::{ModelFiles, StableTokens};

/// Natural length of answers in tokens: an answer to `max_tokens` unset.
const NATURAL_TOKENS: std::ops::Range<u32> = 32..256;

/// Words the model can say.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    words: std::sync::Arc<[u32]>,
}

/// One answer, without end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    words: std::sync::Arc<[u32]>,
    dice: ChaCha8Rng,
    natural: usize,
}

impl Answers {
    /// `None` for a model without words: its tokenizer has no token that survives as text.
    pub(crate) fn of(files: &ModelFiles) -> Option<Self> {
        let words = StableTokens::of(files);
        (!words.ids().is_empty()).then(|| Self { words: words.ids().into() })
    }

    /// The answer to a prompt.
    pub(crate) fn to(&self, prompt: &[u32]) -> Answer {
        let mut seed = blake3::Hasher::new();
        for token in prompt {
            seed.update(&token.to_le_bytes());
        }
        let mut dice = ChaCha8Rng::from_seed(*seed.finalize().as_bytes());
        let natural = NATURAL_TOKENS.start + dice.next_u32() % (NATURAL_TOKENS.end - NATURAL_TOKENS.start);
        Answer { words: self.words.clone(), dice, natural: natural as usize }
    }
}

impl Answer {
    /// Tokens until the model would end by itself.
    pub(crate) fn natural_tokens(&self) -> usize {
        self.natural
    }
}

impl Iterator for Answer {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        Some(self.words[self.dice.next_u32() as usize % self.words.len()])
    }
}
