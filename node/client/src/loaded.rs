//! A loaded block: pinned, readable in place.

use std::sync::Arc;

use weft_attach::{SlotReader, SlotRef, Source};
use weft_types::BlockHash;

use crate::link::Link;

/// Where a loaded block came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoadSource {
    /// This node's arena.
    Host,
    /// This node's disk.
    Disk,
    /// Object storage.
    Object,
    /// Another node.
    Peer,
}

/// A pinned block of the arena; dropping it releases the pin, together with others that are dropped about now.
#[derive(Debug)]
pub struct LoadedBlock {
    link: Arc<Link>,
    /// `None` in `drop` only: the borrow must end before the pin is given back.
    reader: Option<SlotReader>,
    slot: SlotRef,
    hash: BlockHash,
    source: LoadSource,
}

impl LoadedBlock {
    pub(crate) fn new(link: Arc<Link>, reader: SlotReader, slot: SlotRef, hash: BlockHash, source: Source) -> Self {
        let source = match source {
            Source::Host => LoadSource::Host,
            Source::Disk => LoadSource::Disk,
            Source::Object => LoadSource::Object,
            Source::Peer => LoadSource::Peer,
        };
        Self { link, reader: Some(reader), slot, hash, source }
    }

    /// The block's bytes, read-only, valid while this lives.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.reader.as_deref().unwrap_or_default()
    }

    /// Whose block.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// Where from.
    #[must_use]
    pub fn source(&self) -> LoadSource {
        self.source
    }
}

impl AsRef<[u8]> for LoadedBlock {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for LoadedBlock {
    fn drop(&mut self) {
        self.reader = None;
        self.link.release(self.slot);
    }
}
