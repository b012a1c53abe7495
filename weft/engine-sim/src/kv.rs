//! The KV bytes of a block: BLAKE3's extendable output under the block's hash as key.
//!
//! A block's hash covers its tokens, its whole prefix and its model key; each key byte reaches each byte of the output, and the
//! output differs at every position. So bytes of another block, of the same block under another prefix, shifted bytes and torn
//! writes are all told apart from the real ones, and the expected bytes of any block can be made again at any time, without
//! keeping them. It makes 1 GB/s and more (3 GB/s with AVX-512), so that it is not what a replay waits for.

use blake3::OutputReader;
use weft_types::BlockHash;

/// Bytes made and compared at a time: stays in the first-level cache.
const CHUNK_BYTES: usize = 8 << 10;

/// A loaded block that does not have the bytes that belong to its hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvMismatch {
    /// Another size.
    #[error("block {block} was loaded with {got} bytes, the contract says {expected}")]
    Length {
        /// Which block.
        block: BlockHash,
        /// Bytes of a block by the contract.
        expected: usize,
        /// Bytes loaded.
        got: usize,
    },
    /// Other bytes.
    #[error("block {block} differs at byte {offset}: expected {expected:#04x}, got {got:#04x}")]
    Byte {
        /// Which block.
        block: BlockHash,
        /// First byte that differs.
        offset: usize,
        /// What belongs there.
        expected: u8,
        /// What was loaded.
        got: u8,
    },
}

/// Writes the KV bytes of `block` over `slot`.
pub fn fill(block: &BlockHash, slot: &mut [u8]) {
    stream(block).fill(slot);
}

/// Compares every byte of a loaded block with what belongs there.
///
/// # Errors
/// The first difference.
pub fn verify(block: &BlockHash, block_bytes: usize, loaded: &[u8]) -> Result<(), KvMismatch> {
    if loaded.len() != block_bytes {
        return Err(KvMismatch::Length { block: *block, expected: block_bytes, got: loaded.len() });
    }
    let mut stream = stream(block);
    let mut expected = [0; CHUNK_BYTES];
    for (number, chunk) in loaded.chunks(CHUNK_BYTES).enumerate() {
        let expected = &mut expected[..chunk.len()];
        stream.fill(expected);
        if expected != chunk {
            let at = expected.iter().zip(chunk).position(|(a, b)| a != b).expect("unequal slices differ somewhere");
            let offset = number * CHUNK_BYTES + at;
            return Err(KvMismatch::Byte { block: *block, offset, expected: expected[at], got: chunk[at] });
        }
    }
    Ok(())
}

fn stream(block: &BlockHash) -> OutputReader {
    blake3::Hasher::new_keyed(block.as_bytes()).finalize_xof()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 3 * CHUNK_BYTES + 40;

    fn filled(block: &BlockHash) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        fill(block, &mut bytes);
        bytes
    }

    #[test]
    fn a_block_verifies_as_it_was_filled() {
        let block = BlockHash::from_bytes([7; 32]);
        assert_eq!(verify(&block, BYTES, &filled(&block)), Ok(()));
    }

    #[test]
    fn any_flipped_byte_is_found_where_it_is() {
        let block = BlockHash::from_bytes([7; 32]);
        for offset in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, BYTES - 1] {
            let mut bytes = filled(&block);
            let expected = bytes[offset];
            bytes[offset] ^= 0x10;
            let mismatch = KvMismatch::Byte { block, offset, expected, got: bytes[offset] };
            assert_eq!(verify(&block, BYTES, &bytes), Err(mismatch));
        }
    }

    #[test]
    fn every_byte_of_the_hash_changes_the_block() {
        let block = BlockHash::from_bytes([7; 32]);
        for changed in 0..BlockHash::LEN {
            let mut other = *block.as_bytes();
            other[changed] ^= 1;
            assert!(verify(&BlockHash::from_bytes(other), BYTES, &filled(&block)).is_err(), "hash byte {changed}");
        }
    }

    #[test]
    fn shifted_and_short_blocks_are_refused() {
        let block = BlockHash::from_bytes([9; 32]);
        let mut bytes = filled(&block);
        bytes.rotate_left(64);
        assert!(matches!(verify(&block, BYTES, &bytes), Err(KvMismatch::Byte { offset: 0, .. })));
        assert!(matches!(verify(&block, BYTES, &bytes[1..]), Err(KvMismatch::Length { .. })));
    }
}
