//! How a peer can break the protocol.

use crate::FrameType;

/// What a peer sent that it must not send. The stream it came on is reset; other streams go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A number that this release does not know.
    #[error("unknown {what} {number}; the peer must not send it in the version agreed")]
    UnknownNumber {
        /// What it is a number of.
        what: &'static str,
        /// The number.
        number: u16,
    },
    /// A field that must be zero was not.
    #[error("{kind:?} frame with a field set that it does not have")]
    StrayField {
        /// Which frame.
        kind: FrameType,
    },
    /// `Hello` with its lowest version above its highest.
    #[error("hello with the empty version range {min} to {max}")]
    EmptyVersionRange {
        /// Lowest.
        min: u16,
        /// Highest.
        max: u16,
    },
    /// A frame of another kind than the state allows.
    #[error("{got:?} frame where {expected} was expected")]
    UnexpectedFrame {
        /// What could have come.
        expected: &'static str,
        /// What came.
        got: FrameType,
    },
    /// A body longer than its bound.
    #[error("{what} of {len} bytes: at most {max} allowed")]
    TooLong {
        /// What kind of body.
        what: &'static str,
        /// Length that the header states.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// A number of blocks, or a length of blocks, that no fetch may have.
    #[error("fetch of {blocks} blocks of {block_bytes} bytes, with {len} bytes of hashes: expected 1 to {blocks_max} blocks, 1 to {bytes_max} bytes and 32 bytes a hash", blocks_max = crate::FETCH_BLOCKS_MAX, bytes_max = crate::BLOCK_BYTES_MAX)]
    BadFetch {
        /// Blocks stated.
        blocks: u32,
        /// Bytes a block stated.
        block_bytes: u64,
        /// Bytes of hashes.
        len: u64,
    },
    /// An answer about another block than the one whose turn it was.
    #[error("answer about block {got} where block {expected} was expected")]
    OutOfOrder {
        /// Whose turn it was.
        expected: u32,
        /// Which came.
        got: u32,
    },
    /// A block of another length than the one asked for.
    #[error("block {index} announced with {got} bytes: {expected} expected")]
    WrongLength {
        /// Number of the block in the request.
        index: u32,
        /// Bytes asked for.
        expected: u64,
        /// Bytes announced.
        got: u64,
    },
    /// `Done` before every block was answered, or the stream ended without it.
    #[error("ended after {answered} of {asked} blocks")]
    EndedEarly {
        /// Blocks answered.
        answered: u32,
        /// Blocks asked.
        asked: u32,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
    /// Bytes behind the last frame.
    #[error("{0} bytes behind the last frame")]
    Trailing(usize),
}
