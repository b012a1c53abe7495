//! A fetch, seen from the side that asked.
//!
//! ```text
//!            ┌─────────┐ Data            ┌────────────┐ last byte: Complete, or Declined(Corrupt)
//!  request ─►│ header  │────────────────►│ block body │──┐
//!            │ of n    │◄────────────────└────────────┘◄─┘ n + 1
//!            └─────────┘ Decline: Declined, n + 1   Done: Done   Refuse: Refused
//! ```
//! Feed it what arrives with `handle_bytes`, then drain `poll_event`; at the end of the stream call `handle_end`. It keeps
//! no block bytes: chunks are slices of what was fed. It has no timers: a fetch that must end in time is dropped by its
//! caller, and the events handed out until then stand.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use weft_types::{BlockHash, Checksum};
use xxhash_rust::xxh3::Xxh3Default;

use crate::{
    BLOCK_BYTES_MAX, BlockRefusal, FETCH_BLOCKS_MAX, Frame, ProtocolError, REFUSAL_BYTES_MAX, Refusal, RefusalCode,
};

/// One fetch of blocks in order.
pub struct Fetch {
    asked: u32,
    block_bytes: u64,
    request: Option<Bytes>,
    state: State,
    /// Number of the block whose turn it is.
    turn: u32,
    /// Bytes of a frame header, or of a refusal's text, that arrived in pieces.
    partial: BytesMut,
    /// Running checksum of the block that is arriving.
    hash: Xxh3Default,
    events: VecDeque<FetchEvent>,
}

/// What a fetch has to say, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchEvent {
    /// Bytes of block `index` at `offset`. They count only once the block is complete.
    Chunk {
        /// Number of the block in the request.
        index: u32,
        /// Offset in the block.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Every byte of the block came and its checksum agrees.
    Complete {
        /// Number of the block in the request.
        index: u32,
        /// Checksum of its bytes.
        checksum: Checksum,
    },
    /// The block does not come, or came corrupt.
    Declined {
        /// Number of the block in the request.
        index: u32,
        /// Why.
        refusal: BlockRefusal,
    },
    /// The peer ended the whole fetch; no event follows.
    Refused(Refusal),
    /// Every block was answered; no event follows.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    Body { offset: u64, checksum: Checksum },
    Text { code: RefusalCode, len: usize },
    Ended,
}

impl Fetch {
    /// A fetch of `blocks`, each of `block_bytes`.
    ///
    /// # Errors
    /// No blocks, or more or larger ones than a fetch may ask for.
    pub fn new(blocks: &[BlockHash], block_bytes: u64) -> Result<Self, ProtocolError> {
        let asked = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        check_request(asked, block_bytes, u64::from(asked) * BlockHash::LEN as u64)?;
        let mut request = BytesMut::with_capacity(Frame::LEN + blocks.len() * BlockHash::LEN);
        request.put_slice(&Frame::Fetch { blocks: asked, block_bytes }.encode());
        for block in blocks {
            request.put_slice(block.as_bytes());
        }
        Ok(Self {
            asked,
            block_bytes,
            request: Some(request.freeze()),
            state: State::Header,
            turn: 0,
            partial: BytesMut::with_capacity(Frame::LEN),
            hash: Xxh3Default::new(),
            events: VecDeque::new(),
        })
    }

    /// Bytes to send: the request, once. Then finish the sending side.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.request.take()
    }

    /// Bytes that arrived, in order, in pieces of any size.
    ///
    /// # Errors
    /// The peer broke the protocol; events from before stand, and nothing more may be fed.
    pub fn handle_bytes(&mut self, mut bytes: Bytes) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            match self.state {
                State::Header => {
                    if let Some(header) = self.gather(&mut bytes, Frame::LEN) {
                        let header = header.as_ref().try_into().expect("gather returns as much as it was asked for");
                        self.handle_frame(Frame::decode(header)?)?;
                    }
                }
                State::Body { offset, checksum } => {
                    let left = usize::try_from(self.block_bytes - offset).unwrap_or(usize::MAX);
                    let chunk = bytes.split_to(left.min(bytes.len()));
                    self.handle_chunk(offset, checksum, chunk);
                }
                State::Text { code, len } => {
                    if let Some(text) = self.gather(&mut bytes, len) {
                        self.refuse(code, &text);
                    }
                }
                State::Ended => return Err(ProtocolError::Trailing(bytes.len())),
            }
        }
        Ok(())
    }

    /// The peer finished the stream.
    ///
    /// # Errors
    /// It did so before it had answered everything.
    pub fn handle_end(&mut self) -> Result<(), ProtocolError> {
        match self.state {
            State::Ended => Ok(()),
            State::Header if self.partial.is_empty() => {
                Err(ProtocolError::EndedEarly { answered: self.turn, asked: self.asked })
            }
            _ => Err(ProtocolError::Truncated),
        }
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        match frame {
            Frame::Data { index, len, checksum } => {
                self.expect_turn(index)?;
                if len != self.block_bytes {
                    return Err(ProtocolError::WrongLength { index, expected: self.block_bytes, got: len });
                }
                self.hash.reset();
                self.state = State::Body { offset: 0, checksum };
            }
            Frame::Decline { index, refusal } => {
                self.expect_turn(index)?;
                self.events.push_back(FetchEvent::Declined { index, refusal });
                self.turn += 1;
            }
            Frame::Done if self.turn == self.asked => self.end(FetchEvent::Done),
            Frame::Done => return Err(ProtocolError::EndedEarly { answered: self.turn, asked: self.asked }),
            Frame::Refuse { code, len: 0 } => self.refuse(code, &[]),
            Frame::Refuse { code, len } => {
                let too_long = ProtocolError::TooLong { what: "refusal", len, max: REFUSAL_BYTES_MAX as u64 };
                let len = usize::try_from(len).ok().filter(|len| *len <= REFUSAL_BYTES_MAX).ok_or(too_long)?;
                self.state = State::Text { code, len };
            }
            other => {
                let expected = "Data, Decline, Done or Refuse";
                return Err(ProtocolError::UnexpectedFrame { expected, got: other.kind() });
            }
        }
        Ok(())
    }

    fn handle_chunk(&mut self, offset: u64, checksum: Checksum, bytes: Bytes) {
        self.hash.update(&bytes);
        let (index, end) = (self.turn, offset + bytes.len() as u64);
        self.events.push_back(FetchEvent::Chunk { index, offset, bytes });
        if end < self.block_bytes {
            self.state = State::Body { offset: end, checksum };
            return;
        }
        let agrees = self.hash.digest() == checksum.get();
        self.events.push_back(if agrees {
            FetchEvent::Complete { index, checksum }
        } else {
            FetchEvent::Declined { index, refusal: BlockRefusal::Corrupt }
        });
        self.turn += 1;
        self.state = State::Header;
    }

    fn refuse(&mut self, code: RefusalCode, text: &[u8]) {
        let message = String::from_utf8_lossy(text).into_owned();
        self.end(FetchEvent::Refused(Refusal { code, message }));
    }

    fn end(&mut self, event: FetchEvent) {
        self.events.push_back(event);
        self.state = State::Ended;
    }

    fn expect_turn(&self, got: u32) -> Result<(), ProtocolError> {
        if got == self.turn && got < self.asked {
            Ok(())
        } else {
            Err(ProtocolError::OutOfOrder { expected: self.turn, got })
        }
    }

    /// The next `len` bytes once they are all there; until then they wait in `partial`.
    fn gather(&mut self, bytes: &mut Bytes, len: usize) -> Option<Bytes> {
        if self.partial.is_empty() && bytes.len() >= len {
            return Some(bytes.split_to(len));
        }
        let missing = len - self.partial.len();
        self.partial.put(bytes.split_to(missing.min(bytes.len())));
        (self.partial.len() == len).then(|| self.partial.split().freeze())
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch")
            .field("asked", &self.asked)
            .field("block_bytes", &self.block_bytes)
            .field("turn", &self.turn)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Bounds of a request, the same on both sides.
pub(crate) fn check_request(blocks: u32, block_bytes: u64, len: u64) -> Result<(), ProtocolError> {
    let counted = blocks > 0 && blocks as usize <= FETCH_BLOCKS_MAX && len == u64::from(blocks) * BlockHash::LEN as u64;
    let sized = block_bytes > 0 && block_bytes <= BLOCK_BYTES_MAX;
    if counted && sized { Ok(()) } else { Err(ProtocolError::BadFetch { blocks, block_bytes, len }) }
}
