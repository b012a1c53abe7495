//! The block that a key names: how long its value is, and the value itself or the names of its parts.
//!
//! ```text
//!  0      2        4           8               16
//!  ├──────┼────────┼───────────┼───────────────┼──────────────────────────────┬────────┤ 8192
//!  │ 1    │ 0      │ parts     │ value bytes   │ parts × 32 bytes: block hash │ zeroes │
//!  │ u16  │ u16    │ u32       │ u64           │ or, with none, the value     │        │
//! ```
//! Numbers are little-endian. A part is named after what is in it, so that a value never mixes what was set at two times.

use weft_types::BlockHash;

/// Bytes of the block: room for 255 parts, or for a value that needs none.
pub(super) const HEAD_BYTES: usize = 8192;

/// What this is the first version of.
const VERSION: u16 = 1;

/// Before the names, or the value.
const FIXED_BYTES: usize = 16;

/// Longest value that lies in its head.
pub(super) const INSIDE_MAX: u64 = (HEAD_BYTES - FIXED_BYTES) as u64;

/// Most parts of a value.
pub(super) const PARTS_MAX: u64 = INSIDE_MAX / BlockHash::LEN as u64;

/// What a head says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Of the value.
    pub(super) bytes: u64,
    /// Names of its parts, in order; none when the value lies in the head, behind [`Head::inside`].
    pub(super) parts: Vec<BlockHash>,
}

impl Head {
    /// Where the value lies in its head.
    pub(super) fn inside(&self) -> std::ops::Range<usize> {
        let bytes = if self.parts.is_empty() { usize::try_from(self.bytes).unwrap_or(0) } else { 0 };
        FIXED_BYTES..FIXED_BYTES + bytes
    }

    /// The head of a value that lies in it.
    pub(super) fn encode_inside(value: &[u8]) -> Vec<u8> {
        let mut block = fixed(0, value.len() as u64);
        block.extend_from_slice(value);
        block
    }

    /// The head of a value in parts. What is shorter than a block is followed by zeroes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let parts = u32::try_from(self.parts.len()).expect("a value has at most PARTS_MAX parts");
        let mut block = fixed(parts, self.bytes);
        self.parts.iter().for_each(|part| block.extend_from_slice(part.as_bytes()));
        block
    }

    /// `None`: no head of a value that is cut into parts of `part_bytes`.
    pub(super) fn decode(block: &[u8], part_bytes: u64) -> Option<Self> {
        let (fixed, rest) = block.split_first_chunk::<FIXED_BYTES>()?;
        let [v0, v1, z0, z1, p0, p1, p2, p3, bytes @ ..] = *fixed;
        let (parts, bytes) = (u64::from(u32::from_le_bytes([p0, p1, p2, p3])), u64::from_le_bytes(bytes));
        let expected = if bytes <= INSIDE_MAX { 0 } else { bytes.div_ceil(part_bytes) };
        if u16::from_le_bytes([v0, v1]) != VERSION || [z0, z1] != [0, 0] || parts != expected || parts > PARTS_MAX {
            return None;
        }
        let names = rest.as_chunks::<{ BlockHash::LEN }>().0.get(..usize::try_from(parts).ok()?)?;
        let head = Self { bytes, parts: names.iter().map(|name| BlockHash::from_bytes(*name)).collect() };
        (head.inside().end <= block.len()).then_some(head)
    }
}

fn fixed(parts: u32, bytes: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(HEAD_BYTES);
    block.extend_from_slice(&VERSION.to_le_bytes());
    block.extend_from_slice(&[0, 0]);
    block.extend_from_slice(&parts.to_le_bytes());
    block.extend_from_slice(&bytes.to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_keep_their_bytes() {
        let inside = Head::encode_inside(b"abc");
        // Version 1; zero; no parts; three bytes; they.
        assert_eq!(inside, [&[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..], b"abc"].concat());
        let head = Head::decode(&inside, 4096).unwrap();
        assert_eq!((head.bytes, &inside[head.inside()]), (3, &b"abc"[..]));

        let head = Head { bytes: 0x2001, parts: [1, 2, 3].map(|byte| BlockHash::from_bytes([byte; 32])).to_vec() };
        let block = head.encode();
        // Version 1; zero; three parts; 0x2001 bytes; the names.
        assert_eq!(block[..16], [1, 0, 0, 0, 3, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0]);
        assert_eq!(block[16..], [[1; 32], [2; 32], [3; 32]].concat());
        assert_eq!(Head::decode(&block, 4096), Some(head));
    }

    #[test]
    fn what_contradicts_itself_is_no_head() {
        let parts = [1, 2, 3].map(|byte| BlockHash::from_bytes([byte; 32])).to_vec();
        let block = Head { bytes: 0x2001, parts }.encode();
        assert_eq!(Head::decode(&block, 8192), None, "cut into other parts");
        assert_eq!(Head::decode(&block[..100], 4096), None, "a name is missing");
        for (at, byte) in [(0, 2), (2, 1), (4, 2), (7, 1), (8, 0), (9, 0), (15, 1)] {
            let mut wrong = block.clone();
            wrong[at] = byte;
            let decoded = Head::decode(&wrong, 4096);
            // 0x2000 bytes are not the same value in other parts: they would be two.
            assert_eq!(decoded, None, "byte {at}");
        }
        assert_eq!(Head::decode(&[], 4096), None);
    }
}
