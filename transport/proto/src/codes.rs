//! Numbers with which a connection or a stream is ended early. Append, never renumber, never reuse.

/// Connection: the process is going away in good order.
pub const CLOSED: u32 = 0;
/// Connection: no version in common.
pub const VERSION: u32 = 1;
/// Connection: the handshake was not followed by a `Hello`, or by something else.
pub const NO_HELLO: u32 = 2;
/// Connection: the other side's certificate was revoked.
pub const REVOKED: u32 = 3;
/// Connection: one of the two certificates has ended.
pub const EXPIRED: u32 = 4;
/// Stream: whoever asked does not want the answer any more.
pub const CANCELLED: u32 = 16;
/// Stream: the other side sent what the protocol does not allow.
pub const PROTOCOL: u32 = 17;
/// Stream: an answer was begun and cannot be finished.
pub const TORN: u32 = 18;
