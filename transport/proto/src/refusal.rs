//! What a server answers instead of a response, and why one block does not come.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ProtocolError, REFUSAL_BYTES_MAX};

/// Kind of a refusal. Numbers are wire identity: append, never renumber, never reuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[repr(u16)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The peer's role may not call this method.
    Forbidden = 1,
    /// No such method here.
    UnknownMethod = 2,
    /// The request is too long or could not be decoded.
    BadRequest = 3,
    /// A bound is reached; try later or elsewhere.
    Overloaded = 4,
    /// The handler failed.
    Failed = 5,
}

/// What a server answers instead of a response.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("refused ({code}): {message}")]
pub struct Refusal {
    /// Kind.
    pub code: RefusalCode,
    /// Fault and remedy, for a human.
    pub message: String,
}

/// Why one block does not come. Numbers are wire identity: append, never renumber, never reuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum BlockRefusal {
    /// Not held (any more).
    Gone = 1,
    /// Held, with other sizes.
    WrongLayout = 2,
    /// Its bytes and its checksum do not agree.
    Corrupt = 3,
}

impl RefusalCode {
    /// Every code.
    pub const ALL: [Self; 5] = [Self::Forbidden, Self::UnknownMethod, Self::BadRequest, Self::Overloaded, Self::Failed];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Snake-case word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::UnknownMethod => "unknown_method",
            Self::BadRequest => "bad_request",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn from_number(number: u16) -> Result<Self, ProtocolError> {
        let known = Self::ALL.into_iter().find(|code| code.number() == number);
        known.ok_or(ProtocolError::UnknownNumber { what: "refusal code", number })
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Refusal {
    /// A refusal of a kind, with a text for a human.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The text as it goes over the wire, cut to [`REFUSAL_BYTES_MAX`] at a character.
    #[must_use]
    pub fn wire_text(&self) -> &str {
        let mut end = self.message.len().min(REFUSAL_BYTES_MAX);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        &self.message[..end]
    }
}

impl BlockRefusal {
    /// Every refusal.
    pub const ALL: [Self; 3] = [Self::Gone, Self::WrongLayout, Self::Corrupt];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    pub(crate) fn from_number(number: u16) -> Result<Self, ProtocolError> {
        let known = Self::ALL.into_iter().find(|refusal| refusal.number() == number);
        known.ok_or(ProtocolError::UnknownNumber { what: "block refusal", number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let refusal = Refusal::new(RefusalCode::Failed, "é".repeat(REFUSAL_BYTES_MAX));
        assert_eq!(refusal.wire_text().len(), REFUSAL_BYTES_MAX);
        let refusal = Refusal::new(RefusalCode::Failed, format!("x{}", "é".repeat(REFUSAL_BYTES_MAX)));
        assert_eq!(refusal.wire_text().len(), REFUSAL_BYTES_MAX - 1);
    }
}
