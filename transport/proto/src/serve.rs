//! A fetch, seen from the side that has the blocks.
//!
//! ```text
//!  request ─► poll_wanted ─► (read it from where blocks are) ─► handle_block ─► poll_transmit …   until poll_wanted is None
//! ```
//! One block is in hand at a time: the next is wanted only once everything before it was taken by `poll_transmit`, so that a
//! slow reader pins one block, not all of them. Block bytes are never copied.

use std::collections::VecDeque;

use bytes::Bytes;
use weft_types::{BlockHash, Checksum};

use crate::fetch::check_request;
use crate::{BlockRefusal, Frame, ProtocolError};

/// One fetch being answered.
#[derive(Debug)]
pub struct Serve {
    hashes: Bytes,
    block_bytes: u64,
    asked: u32,
    turn: u32,
    out: VecDeque<Bytes>,
}

/// The source handed over a block of another length than was asked for; the peer was told `WrongLayout`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("source gave {got} bytes for block {block}: {expected} expected")]
pub struct SourceError {
    /// The block.
    pub block: BlockHash,
    /// Bytes asked for.
    pub expected: u64,
    /// Bytes given.
    pub got: u64,
}

impl Serve {
    /// Answers a request: the fields of its [`Frame::Fetch`] and its body.
    ///
    /// # Errors
    /// Its counts are out of bounds or do not agree with its body.
    pub fn new(blocks: u32, block_bytes: u64, hashes: Bytes) -> Result<Self, ProtocolError> {
        check_request(blocks, block_bytes, hashes.len() as u64)?;
        Ok(Self { hashes, block_bytes, asked: blocks, turn: 0, out: VecDeque::with_capacity(2) })
    }

    /// Bytes that each block must have.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// The block whose turn it is, once everything before it was taken; answer with [`Serve::handle_block`].
    #[must_use]
    pub fn poll_wanted(&self) -> Option<BlockHash> {
        (self.out.is_empty() && self.turn < self.asked).then(|| self.hash_of(self.turn))
    }

    /// The block that was wanted, or why there is none.
    ///
    /// # Errors
    /// The block has another length than asked for. The peer is told, and the fetch goes on.
    ///
    /// # Panics
    /// Nothing was wanted.
    pub fn handle_block(&mut self, block: Result<(Bytes, Checksum), BlockRefusal>) -> Result<(), SourceError> {
        let hash = self.poll_wanted().expect("a block is handed over only when one is wanted");
        let (index, expected) = (self.turn, self.block_bytes);
        self.turn += 1;
        let outcome = match block {
            Ok((bytes, checksum)) if bytes.len() as u64 == expected => {
                self.out.push_back(header(Frame::Data { index, len: expected, checksum }));
                self.out.push_back(bytes);
                Ok(())
            }
            Ok((bytes, _)) => {
                self.out.push_back(header(Frame::Decline { index, refusal: BlockRefusal::WrongLayout }));
                Err(SourceError { block: hash, expected, got: bytes.len() as u64 })
            }
            Err(refusal) => {
                self.out.push_back(header(Frame::Decline { index, refusal }));
                Ok(())
            }
        };
        if self.turn == self.asked {
            self.out.push_back(header(Frame::Done));
        }
        outcome
    }

    /// Bytes to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn hash_of(&self, index: u32) -> BlockHash {
        let at = index as usize * BlockHash::LEN;
        let bytes = self.hashes[at..at + BlockHash::LEN].try_into().expect("the body has 32 bytes a block");
        BlockHash::from_bytes(bytes)
    }
}

fn header(frame: Frame) -> Bytes {
    Bytes::copy_from_slice(&frame.encode())
}
