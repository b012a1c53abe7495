//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Serial number of a certificate: 1 to 20 bytes (RFC 5280, 4.1.2.2), without leading zeros. `Display` is hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Vec<u8>);

/// A text that is no serial number.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is not a certificate's serial number: expected 1 to 20 bytes in hexadecimal, such as 5f:03:a1")]
pub struct ParseSerialError(pub String);

impl Serial {
    /// Bytes at most.
    pub const LEN_MAX: usize = 20;

    /// From a certificate's bytes; leading zeros mean nothing. `None`: there are none, or too many.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
        let bytes = &bytes[start..];
        (1..=Self::LEN_MAX).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }
}

impl FromStr for Serial {
    type Err = ParseSerialError;

    /// With or without colons between the bytes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSerialError(text.chars().take(80).collect());
        let digits = text.replace(':', "");
        let bytes = hex::decode(&digits).map_err(|_| error())?;
        Self::from_bytes(&bytes).ok_or_else(error)
    }
}

impl TryFrom<String> for Serial {
    type Error = ParseSerialError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_reads_with_and_without_colons_and_leading_zeros() {
        for text in ["5f03a1", "5F:03:A1", "00:5f:03:a1"] {
            assert_eq!(text.parse::<Serial>().unwrap().to_string(), "5f03a1");
        }
        assert_eq!("00".parse::<Serial>().unwrap().to_string(), "00");
        for bad in ["", "5f0", "xy", &"11".repeat(21)] {
            assert!(bad.parse::<Serial>().unwrap_err().to_string().contains("such as 5f:03:a1"), "{bad}");
        }
    }
}
