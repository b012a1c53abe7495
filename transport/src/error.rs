//! Errors, one enum an operation.

use std::net::SocketAddr;
use std::time::Duration;

use weft_transport_proto::{ProtocolError, Refusal};
use weft_types::codec::DecodeError;

use crate::profile::Tuning;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The operating system refused.
    #[error("cannot bind UDP {addr}: {source}")]
    Io {
        /// Address.
        addr: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A datagram size that QUIC cannot use.
    #[error("datagrams of {bytes} bytes: expected {min} to {max}; take the smallest MTU of the path less 48", min = Tuning::DATAGRAM_BYTES_MIN, max = Tuning::DATAGRAM_BYTES_MAX)]
    DatagramBytes {
        /// What was asked for.
        bytes: u16,
    },
}

/// Why a call brought no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection: unreachable, or one side refused the other. The request was not sent.
    #[error("cannot connect to {addr}: {reason}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The connection or stream broke after the request may have been sent.
    #[error("connection to {addr} broke: {reason}")]
    Broken {
        /// Where.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// No answer in time. The request may have been sent.
    #[error("{method} to {addr}: no answer within {after:?}")]
    Deadline {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The server refused.
    #[error("{method} to {addr}: {refusal}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// What it said.
        refusal: Refusal,
    },
    /// The request is longer than its method allows. It was not sent.
    #[error("{method}: request of {len} bytes, at most {max} allowed; split it")]
    TooLong {
        /// Which method.
        method: &'static str,
        /// Its length.
        len: usize,
        /// `Method::REQUEST_BYTES_MAX`.
        max: usize,
    },
    /// The response could not be decoded.
    #[error("{method} to {addr}: {source}")]
    Decode {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// Cause.
        #[source]
        source: DecodeError,
    },
    /// The peer broke the protocol.
    #[error("{method} to {addr}: peer broke the protocol: {source}")]
    Protocol {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// How.
        #[source]
        source: ProtocolError,
    },
}

/// Why a fetch ended before every block was answered. What had arrived by then was given to the sink and stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// As for a call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The request is not one that a fetch may make. It was not sent.
    #[error("cannot fetch: {0}")]
    Request(#[source] ProtocolError),
}

impl CallError {
    /// Metric label.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Deadline { .. } => "deadline",
            Self::Refused { .. } => "refused",
            Self::TooLong { .. } => "too_long",
            Self::Decode { .. } => "decode",
            Self::Protocol { .. } => "protocol",
        }
    }
}
