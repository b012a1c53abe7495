//! Values by key, as blocks of two contracts: heads, which keys name, and parts, which heads name.
//!
//! Blocks of both lie in arenas of their own, and go wherever blocks go: to disk, to peers, out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use weft_attach::Source;
use weft_store::{Arena, PinnedBlock};
use weft_types::{BlockHash, BlockHasher, BlockSize, ByteSize, Checksum, Contract, ModelKey, Part};

use super::head::{HEAD_BYTES, Head, PARTS_MAX};
use crate::arenas::{ArenaError, ArenaLease, Arenas};
use crate::disk::Disk;
use crate::fetch::Fetcher;

/// Share of the memory that heads get: a 32nd, so that values of a quarter of a megabyte have as many heads as parts.
const HEADS_SHARE: u64 = 32;

/// Least memory of heads: 2 MiB, the smallest region, 256 of them.
const HEADS_BYTES_MIN: u64 = 2 << 20;

/// Longest wait for the first pages of an arena. Far longer than it takes.
const POPULATED_WITHIN: Duration = Duration::from_secs(30);

/// Where values are.
#[derive(Debug)]
pub(crate) struct Values {
    heads: ArenaLease,
    parts: ArenaLease,
    disk: Option<Arc<Disk>>,
    fetcher: Option<Arc<Fetcher>>,
    patience: Duration,
}

/// What makes one tenant's names differ from another's.
#[derive(Clone, Debug)]
pub(super) struct Names {
    heads: [u8; 32],
    parts: [u8; 32],
}

/// A value, pinned whole.
#[derive(Debug)]
pub(super) struct Value {
    /// Its bytes, in order: so many together.
    pub(super) bytes: u64,
    /// Where they are.
    pub(super) pieces: Vec<Bytes>,
    /// Pinned too, for those who want the value to stay.
    _head: Bytes,
}

/// Every slot is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Why a key cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotSet {
    /// Every slot is in use.
    Full,
    /// Somebody else is writing it.
    Busy,
}

impl Values {
    /// Makes the two arenas.
    pub(super) async fn new(
        arenas: &Arc<Arenas>,
        (memory, part): (ByteSize, ByteSize),
        (disk, fetcher): (Option<Arc<Disk>>, Option<Arc<Fetcher>>),
        patience: Duration,
    ) -> Result<Self, ArenaError> {
        let heads_bytes = (memory.bytes() / HEADS_SHARE).max(HEADS_BYTES_MIN);
        let parts_bytes = ByteSize::from_bytes(memory.bytes().saturating_sub(heads_bytes));
        let part = part.bytes();
        let heads =
            arenas.attach_within(&contract("heads", part, HEAD_BYTES as u64), ByteSize::from_bytes(heads_bytes))?;
        let parts = arenas.attach_within(&contract("parts", part, part), parts_bytes)?;
        for arena in [&heads, &parts] {
            if timeout(POPULATED_WITHIN, arenas.ready(arena)).await.is_err() {
                tracing::error!(contract = %arena.contract().id(), "the memory of the RESP door does not come: it takes no values yet");
            }
        }
        Ok(Self { heads, parts, disk, fetcher, patience })
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self) -> u64 {
        self.parts.region().geometry().block_bytes
    }

    /// Longest value: what a head can list, and half of the memory at most.
    pub(super) fn value_bytes_max(&self) -> u64 {
        let half = u64::from(self.parts.region().geometry().slots / 2);
        self.part_bytes() * half.min(PARTS_MAX)
    }

    /// Slots of heads, and of parts.
    pub(super) fn slots(&self) -> (usize, usize) {
        let slots = |arena: &Arena| arena.region().geometry().slots as usize;
        (slots(&self.heads), slots(&self.parts))
    }

    /// How a tenant's keys are named.
    pub(super) fn names(&self, salt: &str) -> Names {
        let seed = |arena: &Arena| *BlockHasher::new(&arena.contract().model_key.with_salt(salt)).seed();
        Names { heads: seed(&self.heads), parts: seed(&self.parts) }
    }

    /// Brings a value here, from wherever it is; `None` when it is not whole anywhere, or not in time.
    pub(super) async fn get(&self, head: &BlockHash) -> Option<Value> {
        let deadline = Instant::now() + self.patience;
        let (said, block) = self.head(head, deadline).await?;
        let parts = self.bring(&self.parts, &said.parts, deadline).await;
        if parts.len() < said.parts.len() {
            return None;
        }
        let mut pieces = Vec::with_capacity(parts.len().max(1));
        let mut left = said.bytes;
        for part in parts {
            let bytes = left.min(self.part_bytes());
            left -= bytes;
            pieces.push(readable(part)?.slice(..usize::try_from(bytes).ok()?));
        }
        if said.parts.is_empty() {
            pieces.push(block.slice(said.inside()));
        }
        Some(Value { bytes: said.bytes, pieces, _head: block })
    }

    /// How long a value is.
    pub(super) async fn length(&self, head: &BlockHash) -> Option<u64> {
        Some(self.head(head, Instant::now() + self.patience).await?.0.bytes)
    }

    async fn head(&self, head: &BlockHash, deadline: Instant) -> Option<(Head, Bytes)> {
        let block = self.bring(&self.heads, std::slice::from_ref(head), deadline).await.pop().and_then(readable)?;
        Some((Head::decode(&block, self.part_bytes())?, block))
    }

    async fn bring(&self, arena: &Arc<Arena>, blocks: &[BlockHash], deadline: Instant) -> Vec<PinnedBlock> {
        let mut run: Vec<_> = arena.pin_leading(blocks).into_iter().map(|block| (block, Source::Host)).collect();
        if run.len() < blocks.len()
            && let Some(fetcher) = &self.fetcher
        {
            fetcher.extend(arena, blocks, &mut run, deadline).await;
        }
        run.into_iter().map(|(block, _)| block).collect()
    }

    /// Stores a part, and keeps it until it is dropped.
    pub(super) fn put_part(&self, names: &Names, content: &[u8]) -> Result<(BlockHash, Option<PinnedBlock>), Full> {
        let name = names.part(content);
        match self.parts.reserve(&[name]).pop() {
            None => Err(Full),
            // Here already, or on its way.
            Some(None) => Ok((name, self.parts.pin(&name))),
            Some(Some(slot)) => Ok((name, Some(write(slot, content)))),
        }
    }

    /// Has a key name a value from now on.
    pub(super) fn put_head(&self, head: &BlockHash, content: &[u8]) -> Result<(), NotSet> {
        if let Some(before) = self.heads.pin(head).and_then(readable) {
            if before.starts_with(content) && before[content.len()..].iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            self.remove(head);
        } else if let Some(tier) = self.disk.as_ref().and_then(|disk| disk.tier()) {
            // What is set now is not what was read from there later.
            tier.remove(head);
        }
        match self.heads.reserve(&[*head]).pop() {
            None => Err(NotSet::Full),
            Some(None) => Err(NotSet::Busy),
            Some(Some(slot)) => {
                drop(write(slot, content));
                Ok(())
            }
        }
    }

    /// Has a key name nothing here; `false` if it named nothing. Its parts go when their memory is needed.
    pub(super) fn remove(&self, head: &BlockHash) -> bool {
        let in_memory = self.heads.tier().remove(head);
        let on_disk = self.disk.as_ref().and_then(|disk| disk.tier()).is_some_and(|tier| tier.remove(head));
        in_memory || on_disk
    }
}

impl Names {
    /// The block that a key names.
    pub(super) fn head(&self, key: &[u8]) -> BlockHash {
        BlockHash::from_bytes(*blake3::keyed_hash(&self.heads, key).as_bytes())
    }

    fn part(&self, content: &[u8]) -> BlockHash {
        BlockHash::from_bytes(*blake3::keyed_hash(&self.parts, content).as_bytes())
    }
}

/// Doors that cut values in different ways share nothing: the size of a part is in both layouts.
fn contract(kind: &str, part_bytes: u64, block_bytes: u64) -> Contract {
    let model_key = ModelKey {
        model: format!("weft-resp-{kind}"),
        revision: "1".to_owned(),
        adapter: String::new(),
        salt: String::new(),
        layout: format!("parts of {part_bytes} bytes"),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: block_bytes, ranks: vec![0] }];
    Contract { model_key, parts, aliases: Vec::new(), tokenizer: String::new(), chat_template: String::new() }
}

fn write(mut slot: weft_store::ReservedSlot, content: &[u8]) -> PinnedBlock {
    let bytes = slot.bytes_mut();
    let (front, rest) = bytes.split_at_mut(content.len().min(bytes.len()));
    front.copy_from_slice(&content[..front.len()]);
    rest.fill(0);
    let checksum = Checksum::of(bytes);
    slot.commit(checksum)
}

fn readable(block: PinnedBlock) -> Option<Bytes> {
    match block.into_bytes() {
        Ok(bytes) => Some(Bytes::from_owner(bytes)),
        Err(error) => {
            tracing::error!(%error, "a complete block is being written: not served");
            None
        }
    }
}
