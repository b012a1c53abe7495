//! Model keys, and the *weft block hash v1* that is seeded with them.
//!
//! ```text
//! canonical(ModelKey) = for each of model, revision, adapter, salt, layout: u32-LE byte length, UTF-8 bytes;
//!                       then block_tokens u32-LE
//! seed                = BLAKE3 derive_key(context = "weft 2026-11 model key", canonical(ModelKey))
//! hash[-1]            = 32 zero bytes
//! hash[i]             = BLAKE3 keyed_hash(seed, hash[i-1] ‖ tokens of block i, each u32-LE
//!                                                        ‖ for each extra key: u32-LE length, bytes)
//! ```
//!
//! Only full blocks have a hash. The hash depends on no engine's seed, version or environment, so that router, node and
//! connector agree by construction. `tests/vectors.rs` holds every implementation to the golden vectors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BlockHash, BlockSize};

/// Everything that makes KV bytes incomparable.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ModelKey {
    /// Canonical model name.
    pub model: String,
    /// Digest of the weights.
    pub revision: String,
    /// Digest of the adapter (LoRA); empty for none.
    pub adapter: String,
    /// Cache salt of the tenant; empty for the default tenant of a deployment without keys.
    pub salt: String,
    /// Engine family, dtype, layers, heads, head dimension, parallel split.
    pub layout: String,
    /// Tokens in a block.
    pub block_tokens: BlockSize,
}

/// What else than tokens the KV of a block depends on (digests of images, audio, prompt embeddings): block number in the
/// prompt → keys in order of position.
pub type ExtraKeys = BTreeMap<usize, Vec<Vec<u8>>>;

impl ModelKey {
    /// The bytes that the seed is derived from.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let fields = [&self.model, &self.revision, &self.adapter, &self.salt, &self.layout];
        let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum::<usize>() + 4);
        for field in fields {
            push_framed(&mut bytes, field.as_bytes());
        }
        bytes.extend_from_slice(&self.block_tokens.get().to_le_bytes());
        bytes
    }

    /// The same key for another tenant.
    #[must_use]
    pub fn with_salt(&self, salt: impl Into<String>) -> Self {
        Self { salt: salt.into(), ..self.clone() }
    }
}

/// Hashes prompts under one model key. Cheap to clone; deriving the seed happens once, in [`BlockHasher::new`].
#[derive(Clone, Debug)]
pub struct BlockHasher {
    seed: [u8; 32],
    block_size: BlockSize,
}

impl BlockHasher {
    const DERIVE_KEY_CONTEXT: &'static str = "weft 2026-11 model key";

    /// Derives the seed.
    #[must_use]
    pub fn new(key: &ModelKey) -> Self {
        let seed = blake3::derive_key(Self::DERIVE_KEY_CONTEXT, &key.canonical());
        Self { seed, block_size: key.block_tokens }
    }

    /// The 32-byte seed: two model keys are the same if their seeds are.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Tokens in a block.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Hashes of the full blocks of a prompt, from token 0.
    #[must_use]
    pub fn prefix(&self, tokens: &[u32]) -> Vec<BlockHash> {
        let mut chain = self.chain();
        chain.extend(tokens);
        chain.into_hashes()
    }

    /// Like [`BlockHasher::prefix`], for a prompt with extra keys.
    #[must_use]
    pub fn prefix_with(&self, tokens: &[u32], extra: &ExtraKeys) -> Vec<BlockHash> {
        let (mut parent, mut message) = (BlockHash::ROOT, Vec::with_capacity(self.message_bytes()));
        let blocks = tokens.chunks_exact(self.block_size.tokens()).enumerate();
        blocks
            .map(|(number, block)| {
                let extra: &[Vec<u8>] = extra.get(&number).map_or(&[], Vec::as_slice);
                parent = self.block_with(&mut message, &parent, block, extra);
                parent
            })
            .collect()
    }

    /// An empty chain, to hash a prompt that grows.
    #[must_use]
    pub fn chain(&self) -> Chain {
        let message = Vec::with_capacity(self.message_bytes());
        let mut chain = Chain { hasher: self.clone(), hashes: Vec::new(), message };
        chain.begin(&BlockHash::ROOT);
        chain
    }

    /// Hash of one block of exactly [`BlockHasher::block_size`] tokens.
    #[must_use]
    pub fn block(&self, parent: &BlockHash, tokens: &[u32], extra: &[Vec<u8>]) -> BlockHash {
        self.block_with(&mut Vec::with_capacity(self.message_bytes()), parent, tokens, extra)
    }

    /// Like [`BlockHasher::block`], with a buffer that a caller with many blocks uses again.
    fn block_with(&self, message: &mut Vec<u8>, parent: &BlockHash, tokens: &[u32], extra: &[Vec<u8>]) -> BlockHash {
        debug_assert_eq!(tokens.len(), self.block_size.tokens(), "only full blocks have a hash");
        message.clear();
        message.extend_from_slice(parent.as_bytes());
        push_tokens(message, tokens);
        for key in extra {
            push_framed(message, key);
        }
        self.digest(message)
    }

    fn digest(&self, message: &[u8]) -> BlockHash {
        BlockHash::from_bytes(*blake3::keyed_hash(&self.seed, message).as_bytes())
    }

    /// Length of the message of a block without extra keys.
    fn message_bytes(&self) -> usize {
        BlockHash::LEN + self.block_size.tokens() * TOKEN_BYTES
    }
}

/// Block hashes of a prompt that grows at its end, as a decoding engine's does.
#[derive(Clone, Debug)]
pub struct Chain {
    hasher: BlockHasher,
    hashes: Vec<BlockHash>,
    /// What will be hashed for the next block, as far as it is known: its parent and its first tokens. The one buffer serves
    /// every block.
    message: Vec<u8>,
}

impl Chain {
    /// Appends tokens, and hashes every block that they fill.
    pub fn extend(&mut self, mut tokens: &[u32]) {
        let full = self.hasher.message_bytes();
        self.hashes.reserve(tokens.len() / self.hasher.block_size.tokens());
        while !tokens.is_empty() {
            let missing = (full - self.message.len()) / TOKEN_BYTES;
            let (head, tail) = tokens.split_at(tokens.len().min(missing));
            push_tokens(&mut self.message, head);
            tokens = tail;
            if self.message.len() == full {
                let hash = self.hasher.digest(&self.message);
                self.hashes.push(hash);
                self.begin(&hash);
            }
        }
    }

    fn begin(&mut self, parent: &BlockHash) {
        self.message.clear();
        self.message.extend_from_slice(parent.as_bytes());
    }

    /// Hashes of the blocks filled so far.
    #[must_use]
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// Gives the hashes away.
    #[must_use]
    pub fn into_hashes(self) -> Vec<BlockHash> {
        self.hashes
    }
}

const TOKEN_BYTES: usize = size_of::<u32>();

fn push_tokens(message: &mut Vec<u8>, tokens: &[u32]) {
    let begin = message.len();
    message.resize(begin + tokens.len() * TOKEN_BYTES, 0);
    for (bytes, token) in message[begin..].chunks_exact_mut(TOKEN_BYTES).zip(tokens) {
        bytes.copy_from_slice(&token.to_le_bytes());
    }
}

fn push_framed(bytes: &mut Vec<u8>, field: &[u8]) {
    let len = u32::try_from(field.len()).expect("a field of a model key or an extra key is under 4 GiB");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(field);
}
