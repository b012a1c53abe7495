//! One published batch, decoded.
//!
//! ```text
//!   batch   [ time: f64, [ event … ], rank: int | nil ]                      rank may be missing
//!   event   { "type": "BlockStored", "block_hashes": …, … }                  vLLM from 0.24 on, SGLang
//!         | [ "BlockStored", hashes, parent, tokens, block_size, lora_id, medium, lora_name, extra_keys, … ]      before
//! ```
//! Read off vLLM 0.11 to 0.33 (`distributed/kv_events.py`) and SGLang 0.5.23 (`disaggregation/kv_events.py`). Fields and
//! events that are not known are skipped, so that a later release's batches can be read.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What an engine published together.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// When, in seconds since 1970 by the engine's clock.
    pub published: f64,
    /// In the order in which they happened.
    pub events: Vec<EngineEvent>,
    /// Data-parallel rank of the engine that published, if it says.
    pub rank: Option<u32>,
}

/// What happened to an engine's blocks.
#[derive(Clone, PartialEq, Debug)]
pub enum EngineEvent {
    /// Blocks came.
    BlockStored(BlockStored),
    /// Blocks went.
    BlockRemoved(BlockRemoved),
    /// The whole cache was dropped.
    AllBlocksCleared,
    /// Something that this release does not know, by its name.
    Unknown(String),
}

/// Blocks of one chain, one after the other.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BlockStored {
    /// Their names.
    pub block_hashes: Vec<EngineHash>,
    /// Block that comes before the first; `None`: the first is the first of its prompt.
    pub parent: Option<EngineHash>,
    /// Tokens of all of them.
    pub token_ids: Vec<u32>,
    /// Tokens of each.
    pub block_size: u32,
    /// Where they are: `GPU`, or a tier further off. `None`: an engine that knows one place only.
    pub medium: Option<String>,
    /// Adapter.
    pub lora_name: Option<String>,
    /// What else each depends on; may be shorter than the blocks.
    pub extra_keys: Vec<Vec<ExtraKey>>,
    /// SGLang's field for the salt; vLLM has it among the extra keys.
    pub cache_salt: Option<String>,
    /// Group of layers, in models whose layers differ.
    pub group: Option<u32>,
    /// What kind of attention the group has, if the engine says.
    pub spec_kind: Option<String>,
}

/// Blocks that went, from one place.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BlockRemoved {
    /// Their names.
    pub block_hashes: Vec<EngineHash>,
    /// As in [`BlockStored`].
    pub medium: Option<String>,
    /// As in [`BlockStored`].
    pub group: Option<u32>,
}

/// An engine's name of a block: its number, or the first 16 bytes of its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EngineHash(pub u128);

/// What a block depends on besides tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExtraKey {
    /// A word whose meaning depends on where it stands: adapter, or salt.
    Word(String),
    /// The salt, said to be one.
    Salt(String),
    /// The adapter, said to be one.
    Lora,
    /// Digest of an image, of audio, of embeddings.
    Content(Vec<u8>),
}

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
#[error("not a batch of KV-cache events: {0}; expected MessagePack as vLLM or SGLang publish it")]
pub struct MalformedBatch(#[from] rmp_serde::decode::Error);

impl Batch {
    /// Reads one.
    ///
    /// # Errors
    /// The bytes are not MessagePack, or not of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedBatch> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Batch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[time, events, rank]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Batch, A::Error> {
                let published = parts.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let events = parts.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
                let rank = parts.next_element::<Option<u32>>()?.flatten();
                skip_rest(parts)?;
                Ok(Batch { published, events, rank })
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

/// An event's fields, whatever event it is.
#[derive(Default)]
struct Fields {
    stored: BlockStored,
}

impl Fields {
    /// The event of this name.
    fn event(self, name: String) -> EngineEvent {
        let stored = self.stored;
        match name.as_str() {
            "BlockStored" => EngineEvent::BlockStored(stored),
            "BlockRemoved" => {
                let BlockStored { block_hashes, medium, group, .. } = stored;
                EngineEvent::BlockRemoved(BlockRemoved { block_hashes, medium, group })
            }
            "AllBlocksCleared" => EngineEvent::AllBlocksCleared,
            _ => EngineEvent::Unknown(name),
        }
    }
}

impl<'de> Deserialize<'de> for EngineEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = EngineEvent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event: a map with its type, or an array that begins with it")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EngineEvent, A::Error> {
                let (mut name, mut fields) = (None, Fields::default());
                let stored = &mut fields.stored;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "type" => name = Some(map.next_value()?),
                        "block_hashes" => stored.block_hashes = map.next_value()?,
                        "parent_block_hash" => stored.parent = map.next_value()?,
                        "token_ids" => stored.token_ids = map.next_value()?,
                        "block_size" => stored.block_size = map.next_value()?,
                        "medium" => stored.medium = map.next_value()?,
                        "lora_name" => stored.lora_name = map.next_value()?,
                        "extra_keys" => stored.extra_keys = map.next_value::<MaybeKeys>()?.0,
                        "cache_salt" => stored.cache_salt = map.next_value()?,
                        "group_idx" => stored.group = map.next_value()?,
                        "kv_cache_spec_kind" => stored.spec_kind = map.next_value()?,
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(fields.event(name.ok_or_else(|| de::Error::missing_field("type"))?))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<EngineEvent, A::Error> {
                let name: String = parts.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let mut fields = Fields::default();
                let stored = &mut fields.stored;
                match name.as_str() {
                    "BlockStored" => {
                        stored.block_hashes = parts.next_element()?.unwrap_or_default();
                        stored.parent = parts.next_element()?.flatten();
                        stored.token_ids = parts.next_element()?.unwrap_or_default();
                        stored.block_size = parts.next_element()?.unwrap_or_default();
                        parts.next_element::<IgnoredAny>()?;
                        stored.medium = parts.next_element()?.flatten();
                        stored.lora_name = parts.next_element()?.flatten();
                        stored.extra_keys = parts.next_element::<MaybeKeys>()?.unwrap_or_default().0;
                    }
                    "BlockRemoved" => {
                        stored.block_hashes = parts.next_element()?.unwrap_or_default();
                        stored.medium = parts.next_element()?.flatten();
                    }
                    _ => {}
                }
                skip_rest(parts)?;
                Ok(fields.event(name))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// Extra keys by block; nil where a block, or all of them, have none.
#[derive(Default)]
struct MaybeKeys(Vec<Vec<ExtraKey>>);

impl<'de> Deserialize<'de> for MaybeKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let blocks = Option::<Vec<Option<Vec<ExtraKey>>>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self(blocks.into_iter().map(Option::unwrap_or_default).collect()))
    }
}

impl<'de> Deserialize<'de> for EngineHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl Visitor<'_> for Forms {
            type Value = EngineHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block's hash: an integer, or bytes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<EngineHash, E> {
                Ok(EngineHash(number.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<EngineHash, E> {
                self.visit_u64(number.cast_unsigned())
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<EngineHash, E> {
                let mut first = [0; 16];
                first.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
                Ok(EngineHash(u128::from_be_bytes(first)))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl<'de> Deserialize<'de> for ExtraKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = ExtraKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an extra key: a word, bytes, or an array that begins with one")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ExtraKey, E> {
                Ok(ExtraKey::Word(word.to_owned()))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ExtraKey, E> {
                Ok(ExtraKey::Content(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<ExtraKey, A::Error> {
                let first = parts.next_element::<Text>()?.ok_or_else(|| de::Error::invalid_length(0, &self))?.0;
                let key = match first.as_slice() {
                    b"lora" => ExtraKey::Lora,
                    b"cache_salt" => {
                        let salt: Option<String> = parts.next_element()?;
                        ExtraKey::Salt(salt.ok_or_else(|| de::Error::invalid_length(1, &"a salt"))?)
                    }
                    b"mm" | b"prompt_embeds" => {
                        let digest: Option<Text> = parts.next_element()?;
                        ExtraKey::Content(digest.ok_or_else(|| de::Error::invalid_length(1, &"a digest"))?.0)
                    }
                    // Before vLLM 0.31: the digest of an image and where in the block it begins.
                    _ => ExtraKey::Content(first),
                };
                skip_rest(parts)?;
                Ok(key)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// A string or bytes.
struct Text(Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl Visitor<'_> for Forms {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

fn skip_rest<'de, A: SeqAccess<'de>>(mut parts: A) -> Result<(), A::Error> {
    while parts.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
