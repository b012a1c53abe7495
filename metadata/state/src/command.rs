//! What the log carries, and its bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_index::Report;
use weft_index::layout::Reader;
use weft_types::codec::{self, DecodeError};
use weft_types::{
    Asker, EndpointId, EndpointSpec, Incarnation, LogTime, NodeId, NodeSpec, OperatorAction, RequestId, Salt,
};

use crate::Limits;

/// What the log carries. `at` is the leader's stamp.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// A node daemon joins, or joins again: the holders it had are retired and new ones granted. Under a later incarnation
    /// the device holders of its endpoints go too, since nobody reports for them until their engines attach again.
    Join {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeSpec,
    },
    /// It leaves properly.
    Leave {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeId,
        /// Which life of it: another one is not touched.
        incarnation: Incarnation,
    },
    /// Its liveness lease ran out.
    Expire {
        /// Stamp.
        at: LogTime,
        /// Who.
        node: NodeId,
        /// Which life of it: another one is not touched.
        incarnation: Incarnation,
    },
    /// An engine replica appears, appears again, or changes: the holders it had are retired and new ones granted.
    PutEndpoint {
        /// Stamp.
        at: LogTime,
        /// Who.
        endpoint: EndpointSpec,
    },
    /// It is gone.
    RemoveEndpoint {
        /// Stamp.
        at: LogTime,
        /// Who.
        endpoint: EndpointId,
        /// Which life of it; earlier ones go with it, a later one is not touched.
        incarnation: Incarnation,
    },
    /// What the leader folded from all nodes.
    Reports {
        /// Stamp.
        at: LogTime,
        /// In arrival order; together of at most [`Command::REPORTS_BYTES_MAX`] by [`Report::weight`].
        reports: Vec<Report>,
    },
    /// Removes entries of retired holders in a bounded step.
    Sweep {
        /// Stamp.
        at: LogTime,
        /// Keys to look at.
        budget: u32,
    },
    /// Sets the directory's bounds: proposed by a leader whose configuration differs from what is agreed.
    SetLimits {
        /// Stamp.
        at: LogTime,
        /// From now on. What is over them already stays.
        limits: Limits,
    },
    /// An operator asks for a change.
    Operator {
        /// Stamp.
        at: LogTime,
        /// Who, as the certificate says.
        by: Asker,
        /// By which it is known when it comes again.
        request: RequestId,
        /// Random, for what needs a new salt: every replica must come to the same.
        salt: Salt,
        /// What.
        action: OperatorAction,
    },
    /// Ends the leases that are due, in a bounded step.
    ExpireLeases {
        /// Stamp: those that end by then are due.
        at: LogTime,
    },
}

/// Bytes that are not a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Written by a later release.
    #[error(
        "log entry of format {found}: this release reads format {known}; run the release that wrote it, or a later one"
    )]
    Version {
        /// In the entry.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// A kind this release does not know.
    #[error("log entry of kind {0}, unknown to this release; run the release that wrote it, or a later one")]
    Kind(u8),
    /// Not the bytes of its kind.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

const VERSION: u8 = 1;

/// Kinds are the log's identity on disk: append, never renumber, never reuse.
mod kind {
    pub(super) const REPORTS: u8 = 0;
    pub(super) const JOIN: u8 = 1;
    pub(super) const LEAVE: u8 = 2;
    pub(super) const EXPIRE: u8 = 3;
    pub(super) const PUT_ENDPOINT: u8 = 4;
    pub(super) const REMOVE_ENDPOINT: u8 = 5;
    pub(super) const SWEEP: u8 = 6;
    pub(super) const SET_LIMITS: u8 = 7;
    pub(super) const OPERATOR: u8 = 8;
    pub(super) const EXPIRE_LEASES: u8 = 9;
}

impl Command {
    /// Reports in one command, by their weight: 1 MiB, about 64,000 changes. Their apply takes some 10 ms, and what they change fits
    /// one watch message.
    pub const REPORTS_BYTES_MAX: usize = 1 << 20;

    /// Blocks that the replacing reports of one command may remove: as many as it may store. What would be more stays, and is
    /// found by the holder's next comparison.
    pub const REPLACED_AWAY_MAX: usize = 65_536;

    /// The leader's stamp.
    #[must_use]
    pub fn at(&self) -> LogTime {
        match self {
            Self::Join { at, .. }
            | Self::Leave { at, .. }
            | Self::Expire { at, .. }
            | Self::PutEndpoint { at, .. }
            | Self::RemoveEndpoint { at, .. }
            | Self::Reports { at, .. }
            | Self::Sweep { at, .. }
            | Self::SetLimits { at, .. }
            | Self::Operator { at, .. }
            | Self::ExpireLeases { at } => *at,
        }
    }

    /// Log bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Join { at, node } => control(kind::JOIN, *at, node),
            Self::Leave { at, node, incarnation } => control(kind::LEAVE, *at, &(node, incarnation)),
            Self::Expire { at, node, incarnation } => control(kind::EXPIRE, *at, &(node, incarnation)),
            Self::PutEndpoint { at, endpoint } => control(kind::PUT_ENDPOINT, *at, endpoint),
            Self::RemoveEndpoint { at, endpoint, incarnation } => {
                control(kind::REMOVE_ENDPOINT, *at, &(endpoint, incarnation))
            }
            Self::Reports { at, reports } => {
                let mut bytes =
                    Vec::with_capacity(HEADER_BYTES + reports.iter().map(Report::encoded_len).sum::<usize>());
                write_header(&mut bytes, kind::REPORTS, *at);
                reports.iter().for_each(|report| report.write(&mut bytes));
                bytes
            }
            Self::Sweep { at, budget } => control(kind::SWEEP, *at, budget),
            Self::SetLimits { at, limits } => control(kind::SET_LIMITS, *at, limits),
            Self::Operator { at, by, request, salt, action } => {
                control(kind::OPERATOR, *at, &(by, request, salt, action))
            }
            Self::ExpireLeases { at } => control(kind::EXPIRE_LEASES, *at, &()),
        }
    }

    /// From log bytes.
    ///
    /// # Errors
    /// They are of another format, of an unknown kind, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let mut reader = Reader::new(bytes, "command");
        let (found, kind) = (reader.u8()?, reader.u8()?);
        if found != VERSION {
            return Err(CommandError::Version { found, known: VERSION });
        }
        reader.zeros(6)?;
        let at = LogTime::from_micros(reader.u64()?);
        Ok(match kind {
            kind::REPORTS => Self::Reports { at, reports: read_reports(reader)? },
            kind::JOIN => Self::Join { at, node: rest(reader)? },
            kind::LEAVE => {
                let (node, incarnation) = rest(reader)?;
                Self::Leave { at, node, incarnation }
            }
            kind::EXPIRE => {
                let (node, incarnation) = rest(reader)?;
                Self::Expire { at, node, incarnation }
            }
            kind::PUT_ENDPOINT => Self::PutEndpoint { at, endpoint: rest(reader)? },
            kind::REMOVE_ENDPOINT => {
                let (endpoint, incarnation) = rest(reader)?;
                Self::RemoveEndpoint { at, endpoint, incarnation }
            }
            kind::SWEEP => Self::Sweep { at, budget: rest(reader)? },
            kind::SET_LIMITS => Self::SetLimits { at, limits: rest(reader)? },
            kind::OPERATOR => {
                let (by, request, salt, action) = rest(reader)?;
                Self::Operator { at, by, request, salt, action }
            }
            kind::EXPIRE_LEASES => {
                let () = rest(reader)?;
                Self::ExpireLeases { at }
            }
            unknown => return Err(CommandError::Kind(unknown)),
        })
    }
}

const HEADER_BYTES: usize = 16;

fn write_header(bytes: &mut Vec<u8>, kind: u8, at: LogTime) {
    bytes.extend_from_slice(&[VERSION, kind, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&at.as_micros().to_le_bytes());
}

fn control(kind: u8, at: LogTime, body: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&mut bytes, kind, at);
    bytes.extend_from_slice(&codec::encode(body));
    bytes
}

fn rest<T: DeserializeOwned>(mut reader: Reader<'_>) -> Result<T, DecodeError> {
    codec::decode(reader.bytes(reader.remaining())?)
}

fn read_reports(mut reader: Reader<'_>) -> Result<Vec<Report>, DecodeError> {
    let mut reports = Vec::new();
    while reader.remaining() > 0 {
        reports.push(Report::read(&mut reader)?);
    }
    Ok(reports)
}
