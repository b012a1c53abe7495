//! The one place that knows which serialisation weft's control messages use: bincode 2 over serde, little-endian,
//! variable-length integers, bounded. Replacing the crate means replacing this file.
//!
//! Hot records (reports, snapshots of the index, block frames) have fixed layouts of their own and do not pass here.
//!
//! Types that pass here must not use `skip_serializing_if`, `flatten` or untagged enums: the encoding is positional.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest control message, encoded: 4 MiB. The longest real one is a lookup of a 1-million-token prompt in 16-token
/// blocks (62,500 keys of 16 bytes = 1 MB).
pub const CONTROL_BYTES_MAX: usize = 4 << 20;

/// What decoding a control message may ask for, by bincode's count, which takes 8 bytes for a number that is encoded in one: lists of
/// short records come to up to twice their encoding.
const CONTROL_CLAIM_MAX: usize = 2 * CONTROL_BYTES_MAX;

/// Largest part of a file, encoded: 16 MiB. The longest is the head of a snapshot of the directory, a roster that fills a message and
/// more.
pub const PART_BYTES_MAX: usize = 16 << 20;
const PART_CLAIM_MAX: usize = 2 * PART_BYTES_MAX;

/// Why bytes were not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than any message may be.
    #[error("message of {len} bytes: at most {max} expected")]
    TooLong {
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Bytes left over behind a whole message.
    #[error("{extra} bytes behind the end of a {kind}")]
    Trailing {
        /// How many.
        extra: usize,
        /// Rust type that was expected.
        kind: &'static str,
    },
    /// Not an encoding of the type.
    #[error("not a {kind}: {reason}")]
    Malformed {
        /// Rust type that was expected.
        kind: &'static str,
        /// What the codec said.
        reason: String,
    },
}

/// Encodes a message.
///
/// # Panics
/// Never for weft's own message types: only a type whose `Serialize` fails, or maps of unknown length, could make it.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(message, bincode::config::standard())
        .expect("weft's messages are plain data, which always encodes")
}

/// Decodes a message; the whole of `bytes` must be one.
///
/// # Errors
/// Too long, malformed, or followed by more bytes. Memory is bounded by twice [`CONTROL_BYTES_MAX`] whatever the bytes claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<CONTROL_CLAIM_MAX>();
    decode_within(bytes, CONTROL_BYTES_MAX, config)
}

/// As [`decode`], for a part of a file of our own, which may be as long as [`PART_BYTES_MAX`].
///
/// # Errors
/// As [`decode`].
pub fn decode_part<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<PART_CLAIM_MAX>();
    decode_within(bytes, PART_BYTES_MAX, config)
}

fn decode_within<T: DeserializeOwned>(
    bytes: &[u8],
    max: usize,
    config: impl bincode::config::Config,
) -> Result<T, DecodeError> {
    let kind = std::any::type_name::<T>();
    if bytes.len() > max {
        return Err(DecodeError::TooLong { len: bytes.len(), max });
    }
    let (message, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| DecodeError::Malformed { kind, reason: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(message),
        extra => Err(DecodeError::Trailing { extra, kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_length_does_not_allocate() {
        // A Vec<u64> that claims 2^60 elements and brings none.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    proptest::proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<u64>)>>(&bytes);
        }

        #[test]
        fn what_was_encoded_is_decoded(message: Vec<(String, Option<u64>)>) {
            proptest::prop_assert_eq!(decode::<Vec<(String, Option<u64>)>>(&encode(&message)).unwrap(), message);
        }
    }
}
