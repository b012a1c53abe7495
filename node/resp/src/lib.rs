//! The Redis protocol as a server speaks it: bytes to commands ([`Decoder`]), and replies to bytes ([`reply`]). No I/O.
//!
//! Crates that decode this protocol hand out whole frames, and so hold a value of half a gigabyte in memory before anybody can
//! say that it is too large. Here the value of a `SET` is passed on as it arrives, and everything else is bounded.
//!
//! # Invariants
//! - how the bytes are cut into reads changes nothing about the commands;
//! - a command's arguments, but for the value of a `SET`, take at most [`ARGUMENTS_BYTES_MAX`];
//! - what is not the protocol is an error, once; nothing after it is decoded.

mod decode;
pub mod reply;

pub use decode::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_BYTES_MAX, ARGUMENTS_MAX, Decoder, Item, ProtocolError, VALUE_BYTES_MAX,
};
pub use reply::Protocol;
