//! The one frame of the wire: 32 bytes, little-endian, then a body.
//!
//! ```text
//!  0        2        4                 8                                16                               24       32
//!  ├─ type ─┼─ code ─┼──── number ─────┼────────── len ─────────────────┼────────── value ───────────────┼─ zero ─┤
//!  Hello      –        –                 –                                min | max << 16                  ignored
//!  Fetch      –        blocks            32 × blocks                      bytes a block
//!  Accept     –        –                 –                                –
//!  Data       –        block             bytes that follow                checksum
//!  Done       –        –                 –                                –
//!  Refuse     code     –                 bytes of text                    –
//!  Call       method   –                 bytes of request                 –
//!  Subscribe  method   –                 bytes of request                 –
//!  Reply      –        –                 bytes of response                –
//!  Decline    reason   block             –                                –
//! ```
//! `len` is always the number of body bytes that follow, so a reader can skip what it refuses. A field marked `–` is zero,
//! and anything else there is refused: new meanings come with a new version. Only `Hello` ignores what it does not know,
//! since it is read before versions are agreed.

use weft_types::Checksum;

use crate::{BlockRefusal, ProtocolError, RefusalCode, VersionRange};

/// Kind of a frame. Numbers are wire identity: append, never renumber, never reuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum FrameType {
    /// First on a connection, each way: versions spoken.
    Hello = 0,
    /// Asks for blocks.
    Fetch = 1,
    /// A subscription has begun.
    Accept = 2,
    /// A block.
    Data = 3,
    /// A subscription or a fetch has come to its proper end.
    Done = 4,
    /// The request is refused, or its handler failed.
    Refuse = 5,
    /// Asks for one response.
    Call = 6,
    /// Asks for a subscription.
    Subscribe = 7,
    /// The response to a call, or one item of a subscription.
    Reply = 8,
    /// One block does not come.
    Decline = 9,
}

/// A decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Versions the sender speaks.
    Hello(VersionRange),
    /// Asks for blocks; `blocks` hashes of 32 bytes follow.
    Fetch {
        /// How many.
        blocks: u32,
        /// Bytes that each must have.
        block_bytes: u64,
    },
    /// The subscription has begun.
    Accept,
    /// A block; `len` bytes follow.
    Data {
        /// Its number in the request.
        index: u32,
        /// Its length.
        len: u64,
        /// XXH3-64 over its bytes, made when it was written.
        checksum: Checksum,
    },
    /// Proper end.
    Done,
    /// Refused; `len` bytes of text follow.
    Refuse {
        /// Kind.
        code: RefusalCode,
        /// Bytes of text.
        len: u64,
    },
    /// A call; `len` bytes of request follow.
    Call {
        /// `Method::ID`.
        method: u16,
        /// Bytes of request.
        len: u64,
    },
    /// A subscription; `len` bytes of request follow.
    Subscribe {
        /// `Method::ID`.
        method: u16,
        /// Bytes of request.
        len: u64,
    },
    /// Response or item; `len` bytes follow.
    Reply {
        /// Its length.
        len: u64,
    },
    /// One block does not come.
    Decline {
        /// Its number in the request.
        index: u32,
        /// Why.
        refusal: BlockRefusal,
    },
}

/// Header fields, before they have a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Fields {
    code: u16,
    number: u32,
    len: u64,
    value: u64,
    zero: u64,
}

impl FrameType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Hello,
        Self::Fetch,
        Self::Accept,
        Self::Data,
        Self::Done,
        Self::Refuse,
        Self::Call,
        Self::Subscribe,
        Self::Reply,
        Self::Decline,
    ];

    fn from_number(number: u16) -> Result<Self, ProtocolError> {
        let known = Self::ALL.into_iter().find(|kind| *kind as u16 == number);
        known.ok_or(ProtocolError::UnknownNumber { what: "frame type", number })
    }
}

impl Frame {
    /// Bytes of a header.
    pub const LEN: usize = 32;

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Fetch { .. } => FrameType::Fetch,
            Self::Accept => FrameType::Accept,
            Self::Data { .. } => FrameType::Data,
            Self::Done => FrameType::Done,
            Self::Refuse { .. } => FrameType::Refuse,
            Self::Call { .. } => FrameType::Call,
            Self::Subscribe { .. } => FrameType::Subscribe,
            Self::Reply { .. } => FrameType::Reply,
            Self::Decline { .. } => FrameType::Decline,
        }
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let fields = self.fields();
        let mut bytes = [0; Self::LEN];
        bytes[0..2].copy_from_slice(&(self.kind() as u16).to_le_bytes());
        bytes[2..4].copy_from_slice(&fields.code.to_le_bytes());
        bytes[4..8].copy_from_slice(&fields.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&fields.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&fields.value.to_le_bytes());
        bytes[24..32].copy_from_slice(&fields.zero.to_le_bytes());
        bytes
    }

    /// The frame in these bytes.
    ///
    /// # Errors
    /// A number this release does not know, a field set that the frame does not have, or an empty version range.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let kind = FrameType::from_number(u16::from_le_bytes(field(bytes, 0)))?;
        let fields = Fields {
            code: u16::from_le_bytes(field(bytes, 2)),
            number: u32::from_le_bytes(field(bytes, 4)),
            len: u64::from_le_bytes(field(bytes, 8)),
            value: u64::from_le_bytes(field(bytes, 16)),
            zero: u64::from_le_bytes(field(bytes, 24)),
        };
        let frame = Self::from_fields(kind, fields)?;
        if kind != FrameType::Hello && frame.fields() != fields {
            return Err(ProtocolError::StrayField { kind });
        }
        Ok(frame)
    }

    fn fields(&self) -> Fields {
        let zero = Fields::default();
        match *self {
            Self::Hello(range) => Fields { value: u64::from(range.min()) | u64::from(range.max()) << 16, ..zero },
            Self::Fetch { blocks, block_bytes } => {
                Fields { number: blocks, len: u64::from(blocks) * 32, value: block_bytes, ..zero }
            }
            Self::Accept | Self::Done => zero,
            Self::Data { index, len, checksum } => Fields { number: index, len, value: checksum.get(), ..zero },
            Self::Refuse { code, len } => Fields { code: code.number(), len, ..zero },
            Self::Call { method, len } | Self::Subscribe { method, len } => Fields { code: method, len, ..zero },
            Self::Reply { len } => Fields { len, ..zero },
            Self::Decline { index, refusal } => Fields { code: refusal.number(), number: index, ..zero },
        }
    }

    fn from_fields(kind: FrameType, fields: Fields) -> Result<Self, ProtocolError> {
        let Fields { code, number, len, value, .. } = fields;
        Ok(match kind {
            FrameType::Hello => Self::Hello(hello(value)?),
            FrameType::Fetch => Self::Fetch { blocks: number, block_bytes: value },
            FrameType::Accept => Self::Accept,
            FrameType::Data => Self::Data { index: number, len, checksum: Checksum::from_u64(value) },
            FrameType::Done => Self::Done,
            FrameType::Refuse => Self::Refuse { code: RefusalCode::from_number(code)?, len },
            FrameType::Call => Self::Call { method: code, len },
            FrameType::Subscribe => Self::Subscribe { method: code, len },
            FrameType::Reply => Self::Reply { len },
            FrameType::Decline => Self::Decline { index: number, refusal: BlockRefusal::from_number(code)? },
        })
    }
}

fn hello(value: u64) -> Result<VersionRange, ProtocolError> {
    let [a, b, c, d, ..] = value.to_le_bytes();
    let (min, max) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    VersionRange::new(min, max).ok_or(ProtocolError::EmptyVersionRange { min, max })
}

/// `N` bytes at an offset that is a constant of the layout.
fn field<const N: usize>(bytes: &[u8; Frame::LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
