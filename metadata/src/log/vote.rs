//! The vote: what this member promised, and to whom. A file of its own, replaced whole, and there from the first start on: with
//! nothing promised, it says so (term 0).
//!
//! ```text
//! offset  size
//!      0     8  magic "WEFTVOT1"
//!      8     8  term
//!     16     8  member voted for
//!     24     1  1 if that member is known to lead the term, else 0
//!     25     3  zero
//!     28     4  CRC-32C of the 28 bytes before
//! ```

use std::io;

use crate::error::StoreError;
use crate::raft::Vote;
use crate::volume::{Volume, read_whole, replace_whole};

/// File name of the vote.
pub(crate) const NAME: &str = "vote";
const MAGIC: &[u8; 8] = b"WEFTVOT1";
const BYTES: usize = 32;

fn encode(vote: &Vote) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&vote.leader_id.term.to_le_bytes());
    bytes[16..24].copy_from_slice(&vote.leader_id.node_id.to_le_bytes());
    bytes[24] = u8::from(vote.committed);
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vote> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (term, member) = (word(8)?, word(16)?);
    let vote = if *bytes.get(24)? == 1 { Vote::new_committed(term, member) } else { Vote::new(term, member) };
    (encode(&vote) == bytes).then_some(vote)
}

/// Durable, or the old one is, when this returns.
pub(crate) fn save(volume: &dyn Volume, vote: &Vote) -> io::Result<()> {
    replace_whole(volume, NAME, &encode(vote))
}

/// The vote last saved; `None` if there is no file, which is so before the first start only.
pub(crate) fn load(volume: &dyn Volume) -> Result<Option<Vote>, StoreError> {
    let file = || volume.locate(NAME);
    let bytes = match read_whole(volume, NAME, 4096) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Unreadable { file: file(), offset: 0, source }),
    };
    let reason = || "the vote's magic, length or checksum does not agree".to_owned();
    decode(&bytes).map(Some).ok_or_else(|| StoreError::Damaged { file: file(), offset: 0, reason: reason() })
}
