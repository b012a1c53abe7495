//! Engine blocks into weft blocks: which of them one engine holds in device memory.
//!
//! ```text
//!   weft block, 64 tokens     │                 W                 │
//!   engine blocks, 16 tokens  │   a    │   b    │   c    │   d    │     W is hashed when d is stored, resident while all four are
//!                                      └─── b' ─┴─── c' ─┘             a fork: a may be part of several
//! ```
//! An engine block is known by its engine's name for it, which stands for its tokens and all before them. It is remembered
//! while it is resident, or while another block of one of its weft blocks is.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use weft_types::{BlockHash, BlockHasher, ModelKey};

use crate::batch::{BlockRemoved, BlockStored, EngineEvent, EngineHash, ExtraKey};

/// Model keys whose hashers are kept: one for each adapter and tenant whose requests an engine serves at a time.
const HASHERS_MAX: usize = 1 << 10;

/// A weft block came to be resident, or is no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockChange {
    /// All of it is resident.
    Stored(BlockHash),
    /// Some of it is gone.
    Removed(BlockHash),
}

/// Engine blocks of events that were not understood, by reason, since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// Their parent was never seen: an event was lost, or came before the subscription.
    pub orphans: u64,
    /// Of a size that weft's is no multiple of, or with other tokens than blocks.
    pub misfits: u64,
    /// Under an adapter that the configuration does not name.
    pub unknown_adapters: u64,
    /// Beyond [`DeviceBlocks::ENGINE_BLOCKS_MAX`].
    pub beyond_bound: u64,
}

/// What one engine holds in device memory.
#[derive(Debug)]
pub struct DeviceBlocks {
    key: ModelKey,
    /// Name that the engine has for an adapter → digest of its weights.
    adapters: BTreeMap<String, String>,
    hashers: HashMap<(String, String), Arc<BlockHasher>>,
    engine: HashMap<EngineHash, EngineBlock>,
    weft: HashMap<BlockHash, WeftBlock>,
    left_out: LeftOut,
}

/// A block as the engine has it.
#[derive(Debug)]
struct EngineBlock {
    /// How often it was stored and not removed: an engine may have computed it twice.
    copies: u32,
    so_far: SoFar,
    /// The weft block that ends with it.
    ends: Option<BlockHash>,
    /// Weft blocks that it is part of, as far as they were seen whole.
    part_of: Vec<BlockHash>,
}

/// A weft block up to some engine block of it, that one included.
#[derive(Clone, Debug)]
struct SoFar {
    hasher: Arc<BlockHasher>,
    /// The weft block before.
    parent: BlockHash,
    parts: Vec<EngineHash>,
    tokens: Vec<u32>,
    extra: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct WeftBlock {
    parts: Vec<EngineHash>,
    /// How many of them are not resident.
    missing: usize,
}

impl SoFar {
    fn begin(hasher: Arc<BlockHasher>, parent: BlockHash) -> Self {
        Self { hasher, parent, parts: Vec::new(), tokens: Vec::new(), extra: Vec::new() }
    }
}

impl DeviceBlocks {
    /// Engine blocks that are remembered: 2 Mi, of some 300 bytes each. Eight accelerators of 192 GB hold a quarter of that
    /// in blocks of 16 tokens.
    pub const ENGINE_BLOCKS_MAX: usize = 1 << 21;

    /// Of an engine that serves `key`, whose adapter and salt are empty. `adapters`: digests of the weights of adapters, by
    /// the names that the engine has for them.
    #[must_use]
    pub fn new(key: ModelKey, adapters: BTreeMap<String, String>) -> Self {
        Self {
            key,
            adapters,
            hashers: HashMap::new(),
            engine: HashMap::new(),
            weft: HashMap::new(),
            left_out: LeftOut::default(),
        }
    }

    /// Applies an event; appends what changed, in order.
    pub fn apply(&mut self, event: EngineEvent, changes: &mut Vec<BlockChange>) {
        match event {
            EngineEvent::BlockStored(stored) if is_device(stored.medium.as_deref()) && is_whole(&stored) => {
                self.store(&stored, changes);
            }
            EngineEvent::BlockRemoved(removed) if is_device(removed.medium.as_deref()) => {
                self.remove(&removed, changes)
            }
            EngineEvent::AllBlocksCleared => self.clear(changes),
            EngineEvent::BlockStored(_) | EngineEvent::BlockRemoved(_) | EngineEvent::Unknown(_) => {}
        }
    }

    /// Forgets everything: the engine dropped its cache, or began anew, or events were lost.
    pub fn clear(&mut self, changes: &mut Vec<BlockChange>) {
        self.engine = HashMap::new();
        let resident = std::mem::take(&mut self.weft).into_iter().filter(|(_, block)| block.missing == 0);
        let mut gone: Vec<BlockHash> = resident.map(|(hash, _)| hash).collect();
        gone.sort_unstable();
        changes.extend(gone.into_iter().map(BlockChange::Removed));
    }

    /// Weft blocks that are resident.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.weft.values().filter(|block| block.missing == 0).count()
    }

    /// What was not understood so far.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn store(&mut self, stored: &BlockStored, changes: &mut Vec<BlockChange>) {
        let blocks = stored.block_hashes.len();
        let (size, weft_size) = (stored.block_size as usize, self.key.block_tokens.tokens());
        if size == 0 || !weft_size.is_multiple_of(size) || stored.token_ids.len() != blocks * size {
            self.left_out.misfits += blocks as u64;
            return;
        }
        let begin = match stored.parent {
            None => match self.hasher(stored) {
                Some(hasher) => SoFar::begin(hasher, BlockHash::ROOT),
                None => return self.left_out.unknown_adapters += blocks as u64,
            },
            Some(parent) => match self.engine.get(&parent) {
                Some(EngineBlock { ends: Some(hash), so_far, .. }) => SoFar::begin(Arc::clone(&so_far.hasher), *hash),
                Some(EngineBlock { so_far, .. }) => so_far.clone(),
                None => return self.left_out.orphans += blocks as u64,
            },
        };
        let mut so_far = begin;
        let tokens = stored.token_ids.chunks_exact(size);
        for (number, (hash, tokens)) in stored.block_hashes.iter().zip(tokens).enumerate() {
            so_far.parts.push(*hash);
            so_far.tokens.extend_from_slice(tokens);
            let extra = stored.extra_keys.get(number).map_or(&[][..], Vec::as_slice);
            so_far.extra.extend(extra.iter().filter_map(|key| match key {
                ExtraKey::Content(digest) => Some(digest.clone()),
                // The words of a block further on are digests; those of the first are adapter and salt.
                ExtraKey::Word(word) if number > 0 || stored.parent.is_some() => {
                    (stored.lora_name.as_ref() != Some(word)).then(|| word.clone().into_bytes())
                }
                _ => None,
            }));
            if !self.arrive(*hash, &so_far, changes) {
                self.left_out.beyond_bound += (blocks - number) as u64;
                return;
            }
            if so_far.tokens.len() == weft_size {
                let whole = self.complete(*hash, &so_far, changes);
                so_far = SoFar::begin(so_far.hasher, whole);
            }
        }
    }

    /// An engine block is resident; `false` if there are too many.
    fn arrive(&mut self, hash: EngineHash, so_far: &SoFar, changes: &mut Vec<BlockChange>) -> bool {
        if let Some(block) = self.engine.get_mut(&hash) {
            block.copies = block.copies.saturating_add(1);
            if block.copies == 1 {
                for whole in &block.part_of {
                    let weft = self.weft.get_mut(whole).expect("a part names weft blocks that are there");
                    weft.missing -= 1;
                    if weft.missing == 0 {
                        changes.push(BlockChange::Stored(*whole));
                    }
                }
            }
            return true;
        }
        if self.engine.len() >= Self::ENGINE_BLOCKS_MAX {
            return false;
        }
        let block = EngineBlock { copies: 1, so_far: so_far.clone(), ends: None, part_of: Vec::new() };
        self.engine.insert(hash, block);
        true
    }

    /// The last engine block of a weft block is there; returns its hash.
    fn complete(&mut self, last: EngineHash, so_far: &SoFar, changes: &mut Vec<BlockChange>) -> BlockHash {
        let whole = so_far.hasher.block(&so_far.parent, &so_far.tokens, &so_far.extra);
        if self.weft.contains_key(&whole) {
            return whole;
        }
        let mut missing = 0;
        for part in &so_far.parts {
            match self.engine.get_mut(part) {
                Some(block) => {
                    block.part_of.push(whole);
                    missing += usize::from(block.copies == 0);
                }
                // Its event was lost, or it went while its successor was computed. It can't be seen to come back.
                None => missing += 1,
            }
        }
        if let Some(block) = self.engine.get_mut(&last) {
            block.ends = Some(whole);
        }
        self.weft.insert(whole, WeftBlock { parts: so_far.parts.clone(), missing });
        if missing == 0 {
            changes.push(BlockChange::Stored(whole));
        }
        whole
    }

    fn remove(&mut self, removed: &BlockRemoved, changes: &mut Vec<BlockChange>) {
        for hash in &removed.block_hashes {
            let Some(block) = self.engine.get_mut(hash) else { continue };
            if block.copies == 0 {
                continue;
            }
            block.copies -= 1;
            if block.copies > 0 {
                continue;
            }
            for whole in block.part_of.clone() {
                let weft = self.weft.get_mut(&whole).expect("a part names weft blocks that are there");
                if weft.missing == 0 {
                    changes.push(BlockChange::Removed(whole));
                }
                weft.missing += 1;
                if weft.missing == weft.parts.len() {
                    self.forget(whole);
                }
            }
            self.forget_if_idle(*hash);
        }
    }

    /// No part of it is resident.
    fn forget(&mut self, whole: BlockHash) {
        let Some(weft) = self.weft.remove(&whole) else { return };
        for part in weft.parts {
            if let Some(block) = self.engine.get_mut(&part) {
                block.part_of.retain(|other| *other != whole);
                if block.ends == Some(whole) {
                    block.ends = None;
                }
                self.forget_if_idle(part);
            }
        }
    }

    fn forget_if_idle(&mut self, hash: EngineHash) {
        if self.engine.get(&hash).is_some_and(|block| block.copies == 0 && block.part_of.is_empty()) {
            self.engine.remove(&hash);
        }
    }

    /// The hasher of a chain that begins with this event; `None`: its adapter is not known.
    fn hasher(&mut self, stored: &BlockStored) -> Option<Arc<BlockHasher>> {
        let adapter = match &stored.lora_name {
            Some(name) => self.adapters.get(name)?.clone(),
            None => String::new(),
        };
        let first = stored.extra_keys.first().map_or(&[][..], Vec::as_slice);
        let salt = stored.cache_salt.clone().or_else(|| {
            first.iter().find_map(|key| match key {
                ExtraKey::Salt(salt) => Some(salt.clone()),
                ExtraKey::Word(word) if stored.lora_name.as_ref() != Some(word) => Some(word.clone()),
                _ => None,
            })
        });
        let names = (adapter, salt.unwrap_or_default());
        if let Some(hasher) = self.hashers.get(&names) {
            return Some(Arc::clone(hasher));
        }
        if self.hashers.len() >= HASHERS_MAX {
            self.hashers.clear();
        }
        let key = ModelKey { adapter: names.0.clone(), salt: names.1.clone(), ..self.key.clone() };
        let hasher = Arc::new(BlockHasher::new(&key));
        self.hashers.insert(names, Arc::clone(&hasher));
        Some(hasher)
    }
}

/// In device memory, as far as the engine says.
fn is_device(medium: Option<&str>) -> bool {
    medium.is_none_or(|medium| medium.eq_ignore_ascii_case("gpu"))
}

/// Of the layers that keep every token: a prefix can be used as far as these have it.
fn is_whole(stored: &BlockStored) -> bool {
    stored.spec_kind.as_deref().is_none_or(|kind| kind.contains("full_attention") || kind.contains("mla"))
}
