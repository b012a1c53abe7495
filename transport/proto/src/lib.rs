//! What weft says over QUIC, as values: frames, the version handshake, and both sides of a block transfer. No socket, no
//! clock, no task.
//!
//! ```text
//! connection   both ends open one unidirectional stream:   Hello                        (versions they speak)
//! call         Call + request        ──►  Reply + response  |  Refuse + message
//! subscription Subscribe + request   ──►  Accept, then Reply + item, again and again, Done  |  Refuse + message
//! fetch        Fetch + block hashes  ──►  for each block in order: Data + its bytes, or Decline;  Done  |  Refuse + message
//! ```
//! Every request has a bidirectional stream of its own, and everything on a stream is a sequence of [`Frame`]s: 32 bytes,
//! little-endian, then as many bytes of body as the header says.
//!
//! # Invariants
//! - numbers ([`FrameType`], [`RefusalCode`], [`BlockRefusal`], [`codes`]) are wire identity: append, never renumber,
//!   never reuse;
//! - whatever arrives, decoding returns a value or a typed error, and allocates no more than has arrived;
//! - a block is complete for its receiver only if its number, its length and its checksum agree with what was asked.
//!
//! # Absent on purpose
//! - credit and cancel frames: QUIC's flow control and stream resets do both;
//! - deadlines: the caller resets its stream, and the server's handler is dropped.

pub mod codes;

mod error;
mod fetch;
mod frame;
mod refusal;
mod serve;
mod version;

pub use error::ProtocolError;
pub use fetch::{Fetch, FetchEvent};
pub use frame::{Frame, FrameType};
pub use refusal::{BlockRefusal, Refusal, RefusalCode};
pub use serve::{Serve, SourceError};
pub use version::{NoCommonVersion, VersionRange};

/// Application protocol of the TLS handshake. It changes only when releases can no longer talk at all; what neighbouring
/// releases negotiate is in [`VersionRange`].
pub const ALPN: &[u8] = b"weft/1";

/// Most blocks in one fetch: 65,536 cover a prompt of a million tokens in 16-token blocks, and make a 2 MiB request.
pub const FETCH_BLOCKS_MAX: usize = 65_536;

/// Largest block: 256 MiB. A 256-token block of a 400-KiB-a-token model has 100 MiB.
pub const BLOCK_BYTES_MAX: u64 = 256 << 20;

/// Longest text of a refusal, in bytes; longer ones are cut.
pub const REFUSAL_BYTES_MAX: usize = 1024;
