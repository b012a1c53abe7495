//! Fingerprints of a prompt's beginning: which of two prompts began alike, and for how long, without keeping either.
//!
//! ```text
//! print[i] = xxh3(chunk i, seeded with print[i-1])        print[-1] = random, of this process
//! ```
//! A chunk is 64 tokens; where no tokenizer is there to ask, 256 bytes of the request's prompt, which is about as much. A print
//! stands for everything before it, and says nothing to whoever does not know the seed.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Prints of the full chunks of a prompt, from its first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Prints(Box<[u64]>);

impl Prints {
    /// Tokens that a chunk is taken for.
    pub(crate) const CHUNK_TOKENS: u32 = 64;
    const CHUNK_BYTES: usize = Self::CHUNK_TOKENS as usize * size_of::<u32>();

    pub(crate) fn of_tokens(seed: u64, tokens: &[u32]) -> Self {
        let mut bytes = [0; Self::CHUNK_BYTES];
        let chunks = tokens.chunks_exact(Self::CHUNK_TOKENS as usize);
        Self::chain(seed, chunks, |chunk: &[u32], parent| {
            for (out, token) in bytes.chunks_exact_mut(size_of::<u32>()).zip(chunk) {
                out.copy_from_slice(&token.to_le_bytes());
            }
            xxh3_64_with_seed(&bytes, parent)
        })
    }

    /// Of parts of a body, one after the other.
    pub(crate) fn of_bytes<'a>(seed: u64, parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let chunks = parts.flat_map(|part| part.chunks_exact(Self::CHUNK_BYTES));
        Self::chain(seed, chunks, |chunk: &[u8], parent| xxh3_64_with_seed(chunk, parent))
    }

    fn chain<T>(seed: u64, chunks: impl Iterator<Item = T>, mut print: impl FnMut(T, u64) -> u64) -> Self {
        let next = |parent: &mut u64, chunk| {
            *parent = print(chunk, *parent);
            Some(*parent)
        };
        Self(chunks.scan(seed, next).collect())
    }

    /// One for each chunk.
    pub(crate) fn chunks(&self) -> &[u64] {
        &self.0
    }

    /// Tokens of all of them.
    pub(crate) fn tokens(&self) -> u32 {
        Self::tokens_of(self.0.len())
    }

    /// Tokens for which both are the same.
    pub(crate) fn common_tokens(&self, other: &Self) -> u32 {
        Self::tokens_of(self.0.iter().zip(&other.0).take_while(|(ours, theirs)| ours == theirs).count())
    }

    pub(crate) fn tokens_of(chunks: usize) -> u32 {
        u32::try_from(chunks).unwrap_or(u32::MAX).saturating_mul(Self::CHUNK_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_alike_up_to_the_chunk_in_which_they_differ() {
        let tokens: Vec<u32> = (0..300).collect();
        let mut other = tokens.clone();
        other[130] = 7;
        let [ours, theirs] = [&tokens, &other].map(|tokens| Prints::of_tokens(1, tokens));
        assert_eq!((ours.tokens(), ours.common_tokens(&theirs), ours.common_tokens(&ours)), (256, 128, 256));
        assert_eq!(ours.common_tokens(&Prints::of_tokens(2, &tokens)), 0, "another process, other prints");
        assert_ne!(ours.chunks()[3], theirs.chunks()[3], "equal chunks after a difference are not the same beginning");
        let text = [b'a'; 1000];
        assert_eq!(Prints::of_bytes(1, [&text[..], &text[..]].into_iter()).tokens(), 6 * 64);
    }
}
