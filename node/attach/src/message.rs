//! What engine and node say to each other over the unix socket.
//!
//! Every message is one [`crate::Frame`]: a fixed header with the message's [`Kind`], then the message encoded by
//! `weft_types::codec`. A request carries a call number that its answer repeats; what expects no answer carries 0.
//!
//! | engine → node | answer |
//! |---|---|
//! | [`Hello`] | [`Welcome`] with two descriptors, or [`Refused`] |
//! | [`Reserve`] | [`Reserved`] |
//! | [`Commit`] | [`Committed`] |
//! | [`Load`] | [`Loaded`] |
//! | [`Release`], [`Touch`], [`DeviceChanged`] | none |
//! | [`Detach`] | [`Detach`], then the node closes |
//! | [`SharedCache`] | [`CacheShared`] |
//! | [`StorePages`] | [`PagesStored`] |
//! | [`LoadPages`] | [`PagesLoaded`] |
//! | – | [`Draining`], at any time |

use serde::{Deserialize, Serialize};
use weft_types::codec::{self, DecodeError};
use weft_types::{BlockHash, Checksum, Contract, EndpointId, Incarnation, NodeId};

use crate::pages::{CacheShared, LoadPages, PagesLoaded, PagesStored, SharedCache, StorePages};
use crate::{Geometry, SlotIndex};

/// Version of the engine socket's protocol. Messages are only ever appended; a field added to one raises this number, and
/// the node goes on speaking the previous one.
pub const VERSION: u16 = 1;

/// Blocks in one message: 16,384. A prompt of a million tokens has 15,625 blocks of 64, and a message stays at 512 KiB.
pub const BLOCKS_PER_MESSAGE_MAX: usize = 16_384;

/// Kinds of message. Numbers are wire identity: append, never renumber, never reuse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
#[non_exhaustive]
pub enum Kind {
    /// First message of an engine.
    Hello = 1,
    /// The engine is attached.
    Welcome = 2,
    /// It is not; the connection closes.
    Refused = 3,
    /// Asks for slots.
    Reserve = 4,
    /// Grants them.
    Reserved = 5,
    /// Slots are filled, or given up.
    Commit = 6,
    /// They can be found from now on.
    Committed = 7,
    /// Asks for the leading run of a prefix.
    Load = 8,
    /// The run, pinned.
    Loaded = 9,
    /// Pins given back.
    Release = 10,
    /// A prefix was used.
    Touch = 11,
    /// The engine's device tier changed.
    DeviceChanged = 12,
    /// The engine goes.
    Detach = 13,
    /// The node goes.
    Draining = 14,
    /// The engine's cache on a GPU, for the node to copy from and to.
    ShareCache = 15,
    /// Whether the node has opened it.
    CacheShared = 16,
    /// Asks the node to store pages of it.
    StorePages = 17,
    /// They are stored.
    PagesStored = 18,
    /// Asks the node to copy blocks into pages of it.
    LoadPages = 19,
    /// They are there.
    PagesLoaded = 20,
}

/// Number of an attachment, never used again: the daemon's boot counter and a count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttachmentId(pub u64);

/// A slot in one of its lives: the generation is raised with every reservation, so that a late message about an earlier
/// block of the slot is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SlotRef {
    /// Which slot.
    pub slot: SlotIndex,
    /// Which life of it.
    pub generation: u32,
}

/// First message of an engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the engine.
    pub version: u16,
    /// Its name, by configuration.
    pub endpoint: EndpointId,
    /// Its boot counter.
    pub incarnation: Incarnation,
    /// Base URL of its OpenAI API, as routers reach it.
    pub url: String,
    /// What it brings.
    pub contract: Contract,
    /// Attachments that this process had before and of which it holds no block any more: whatever they still pin is free.
    pub surrendered: Vec<AttachmentId>,
}

/// The engine is attached. Two descriptors come with it: writable, then read-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`] that the node will speak.
    pub version: u16,
    /// Who the node is.
    pub node: NodeId,
    /// Its boot counter.
    pub incarnation: Incarnation,
    /// This attachment.
    pub attachment: AttachmentId,
    /// Sizes of the region.
    pub geometry: Geometry,
}

/// The engine is not attached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Fault and remedy.
    pub reason: String,
    /// Whether trying again, unchanged, can help.
    pub retry: bool,
}

/// Asks for a slot for each block that the node lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reserve {
    /// In the order of the prefix.
    #[serde(with = "hashes")]
    pub blocks: Vec<BlockHash>,
}

/// Answer to [`Reserve`], block by block.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reserved {
    /// In the order asked.
    pub blocks: Vec<ReservedBlock>,
}

/// What became of one reservation. Numbers are wire identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReservedBlock {
    /// 0: write it here, then commit.
    Slot(SlotRef),
    /// 1: the node has it, or somebody is writing it.
    Present,
    /// 2: no slot could be freed.
    Full,
}

/// Slots that were reserved and are now filled (or given up).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// In the order of the prefix.
    pub slots: Vec<CommitSlot>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitSlot {
    /// Which.
    pub slot: SlotRef,
    /// Checksum of the block's bytes; `None` gives the reservation back.
    pub checksum: Option<Checksum>,
}

/// Answer to [`Commit`]: what was committed can be found from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Committed {
    /// Blocks committed.
    pub blocks: u32,
}

/// Asks for the longest leading run of a prefix that is here or arrives in time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Load {
    /// From the first block wanted.
    #[serde(with = "hashes")]
    pub blocks: Vec<BlockHash>,
    /// How long the node may take, in microseconds.
    pub deadline_us: u64,
}

/// Answer to [`Load`]: the run, each block pinned once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loaded {
    /// From the first block asked, without a hole.
    pub blocks: Vec<LoadedSlot>,
}

/// One block of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadedSlot {
    /// Where it lies.
    pub slot: SlotRef,
    /// Where it came from.
    pub source: Source,
}

/// Where a loaded block came from. Numbers are wire identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// 0: it was in the node's arena.
    Host,
    /// 1: the node's disk.
    Disk,
    /// 2: object storage.
    Object,
    /// 3: another node.
    Peer,
}

/// Pins given back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {
    /// One for each pin.
    pub slots: Vec<SlotRef>,
}

/// A prefix was used: its blocks become recent, the first of them most of all, so that a chain is evicted from its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Touch {
    /// In the order of the prefix.
    #[serde(with = "hashes")]
    pub blocks: Vec<BlockHash>,
}

/// The engine's device tier changed. Removals come first: a block that is in both lists was removed, then stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceChanged {
    /// Forget everything said before: the lists begin anew.
    pub reset: bool,
    /// No longer resident.
    #[serde(with = "hashes")]
    pub removed: Vec<BlockHash>,
    /// Resident now.
    #[serde(with = "hashes")]
    pub stored: Vec<BlockHash>,
}

/// The engine goes: its endpoint leaves the roster. Pins it has not released stay until its process is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Detach {}

/// The node goes: stores are refused from now on, what is loaded stays valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draining {}

/// Whatever an engine sends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the message it carries")]
pub enum ToNode {
    Hello(Box<Hello>),
    Reserve(Reserve),
    Commit(Commit),
    Load(Load),
    Release(Release),
    Touch(Touch),
    DeviceChanged(DeviceChanged),
    Detach(Detach),
    ShareCache(Box<SharedCache>),
    StorePages(StorePages),
    LoadPages(LoadPages),
}

/// Whatever a node sends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the message it carries")]
pub enum ToEngine {
    Welcome(Welcome),
    Refused(Refused),
    Reserved(Reserved),
    Committed(Committed),
    Loaded(Loaded),
    Detach(Detach),
    Draining(Draining),
    CacheShared(CacheShared),
    PagesStored(PagesStored),
    PagesLoaded(PagesLoaded),
}

impl ToNode {
    /// Kind and bytes.
    #[must_use]
    pub fn encode(&self) -> (Kind, Vec<u8>) {
        match self {
            Self::Hello(message) => (Kind::Hello, codec::encode(&**message)),
            Self::Reserve(message) => (Kind::Reserve, codec::encode(message)),
            Self::Commit(message) => (Kind::Commit, codec::encode(message)),
            Self::Load(message) => (Kind::Load, codec::encode(message)),
            Self::Release(message) => (Kind::Release, codec::encode(message)),
            Self::Touch(message) => (Kind::Touch, codec::encode(message)),
            Self::DeviceChanged(message) => (Kind::DeviceChanged, codec::encode(message)),
            Self::Detach(message) => (Kind::Detach, codec::encode(message)),
            Self::ShareCache(message) => (Kind::ShareCache, codec::encode(&**message)),
            Self::StorePages(message) => (Kind::StorePages, codec::encode(message)),
            Self::LoadPages(message) => (Kind::LoadPages, codec::encode(message)),
        }
    }

    /// From kind and bytes; `None` when a node does not expect this kind.
    ///
    /// # Errors
    /// The bytes are not such a message.
    pub fn decode(kind: u16, bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match Kind::from_number(kind) {
            Some(Kind::Hello) => Self::Hello(Box::new(codec::decode(bytes)?)),
            Some(Kind::Reserve) => Self::Reserve(codec::decode(bytes)?),
            Some(Kind::Commit) => Self::Commit(codec::decode(bytes)?),
            Some(Kind::Load) => Self::Load(codec::decode(bytes)?),
            Some(Kind::Release) => Self::Release(codec::decode(bytes)?),
            Some(Kind::Touch) => Self::Touch(codec::decode(bytes)?),
            Some(Kind::DeviceChanged) => Self::DeviceChanged(codec::decode(bytes)?),
            Some(Kind::Detach) => Self::Detach(codec::decode(bytes)?),
            Some(Kind::ShareCache) => Self::ShareCache(Box::new(codec::decode(bytes)?)),
            Some(Kind::StorePages) => Self::StorePages(codec::decode(bytes)?),
            Some(Kind::LoadPages) => Self::LoadPages(codec::decode(bytes)?),
            _ => return Ok(None),
        }))
    }
}

impl ToEngine {
    /// Kind and bytes.
    #[must_use]
    pub fn encode(&self) -> (Kind, Vec<u8>) {
        match self {
            Self::Welcome(message) => (Kind::Welcome, codec::encode(message)),
            Self::Refused(message) => (Kind::Refused, codec::encode(message)),
            Self::Reserved(message) => (Kind::Reserved, codec::encode(message)),
            Self::Committed(message) => (Kind::Committed, codec::encode(message)),
            Self::Loaded(message) => (Kind::Loaded, codec::encode(message)),
            Self::Detach(message) => (Kind::Detach, codec::encode(message)),
            Self::Draining(message) => (Kind::Draining, codec::encode(message)),
            Self::CacheShared(message) => (Kind::CacheShared, codec::encode(message)),
            Self::PagesStored(message) => (Kind::PagesStored, codec::encode(message)),
            Self::PagesLoaded(message) => (Kind::PagesLoaded, codec::encode(message)),
        }
    }

    /// From kind and bytes; `None` when an engine does not expect this kind.
    ///
    /// # Errors
    /// The bytes are not such a message.
    pub fn decode(kind: u16, bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match Kind::from_number(kind) {
            Some(Kind::Welcome) => Self::Welcome(codec::decode(bytes)?),
            Some(Kind::Refused) => Self::Refused(codec::decode(bytes)?),
            Some(Kind::Reserved) => Self::Reserved(codec::decode(bytes)?),
            Some(Kind::Committed) => Self::Committed(codec::decode(bytes)?),
            Some(Kind::Loaded) => Self::Loaded(codec::decode(bytes)?),
            Some(Kind::Detach) => Self::Detach(codec::decode(bytes)?),
            Some(Kind::Draining) => Self::Draining(codec::decode(bytes)?),
            Some(Kind::CacheShared) => Self::CacheShared(codec::decode(bytes)?),
            Some(Kind::PagesStored) => Self::PagesStored(codec::decode(bytes)?),
            Some(Kind::PagesLoaded) => Self::PagesLoaded(codec::decode(bytes)?),
            _ => return Ok(None),
        }))
    }
}

impl Kind {
    const ALL: [Self; 20] = [
        Self::Hello,
        Self::Welcome,
        Self::Refused,
        Self::Reserve,
        Self::Reserved,
        Self::Commit,
        Self::Committed,
        Self::Load,
        Self::Loaded,
        Self::Release,
        Self::Touch,
        Self::DeviceChanged,
        Self::Detach,
        Self::Draining,
        Self::ShareCache,
        Self::CacheShared,
        Self::StorePages,
        Self::PagesStored,
        Self::LoadPages,
        Self::PagesLoaded,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Block hashes as one run of bytes: a serde sequence would visit every byte of every hash.
pub(crate) mod hashes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use weft_types::BlockHash;

    use super::BLOCKS_PER_MESSAGE_MAX;

    pub(crate) fn serialize<S: Serializer>(blocks: &[BlockHash], serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(blocks.len() * BlockHash::LEN);
        blocks.iter().for_each(|block| bytes.extend_from_slice(block.as_bytes()));
        serializer.serialize_bytes(&bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BlockHash>, D::Error> {
        deserializer.deserialize_byte_buf(Hashes)
    }

    struct Hashes;

    impl Visitor<'_> for Hashes {
        type Value = Vec<BlockHash>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {BLOCKS_PER_MESSAGE_MAX} block hashes of {} bytes each", BlockHash::LEN)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            let (hashes, rest) = bytes.as_chunks::<{ BlockHash::LEN }>();
            if !rest.is_empty() || hashes.len() > BLOCKS_PER_MESSAGE_MAX {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(hashes.iter().map(|hash| BlockHash::from_bytes(*hash)).collect())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
            self.visit_bytes(&bytes)
        }
    }
}
