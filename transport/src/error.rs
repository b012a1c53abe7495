//! Errors, one enum an operation.
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Placeholder.
    #[error("cannot bind {addr}: {source}")]
    Io {
        /// Address.
        addr: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Kind of a refusal. Numbers are wire identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The peer's role may not call this method.
    Forbidden,
    /// No such method here.
    UnknownMethod,
    /// The request could not be decoded.
    BadRequest,
    /// A bound is reached; try later or elsewhere.
    Overloaded,
    /// The handler failed.
    Failed,
}

/// What a server answers instead of a response.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("refused ({code:?}): {message}")]
pub struct Refusal {
    /// Kind.
    pub code: RefusalCode,
    /// Fault and remedy, for a human.
    pub message: String,
}

/// Why a call brought no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection: unreachable, bad certificate, wrong peer.
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
    /// No answer in time.
    #[error("{method} to {addr}: no answer within {after:?}")]
    Deadline {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// The deadline.
        after: std::time::Duration,
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
    /// The response could not be decoded.
    #[error("{method} to {addr}: {source}")]
    Decode {
        /// Where.
        addr: SocketAddr,
        /// Which method.
        method: &'static str,
        /// Cause.
        #[source]
        source: weft_types::codec::DecodeError,
    },
}

/// Why a fetch ended before every block was answered. What had arrived by then was given to the sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// As for a call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The peer broke the protocol.
    #[error("peer {addr} broke the block protocol: {reason}")]
    Protocol {
        /// Where.
        addr: SocketAddr,
        /// How.
        reason: String,
    },
}
