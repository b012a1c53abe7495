//! A name that a human gave to a process, an endpoint or a tenant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// 1 to 63 characters of `a-z A-Z 0-9 . _ -`, so that a name fits a DNS label, a certificate's SAN URI, a metric label
/// and a file name without quoting. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a name: expected 1 to {max} characters of a-z A-Z 0-9 . _ -", max = Name::LEN_MAX)]
pub struct ParseNameError {
    /// The text as given, cut to 80 characters.
    pub text: String,
}

impl Name {
    /// A DNS label holds 63 octets (RFC 1035, 2.3.4).
    pub const LEN_MAX: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.chars().all(allowed) {
            return Err(ParseNameError { text: text.chars().take(80).collect() });
        }
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for Name {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!("node-1.rack_2".parse::<Name>().unwrap().as_str(), "node-1.rack_2");
        for bad in ["", "two words", "slash/", "ünicode", &"x".repeat(64)] {
            let err = bad.parse::<Name>().unwrap_err().to_string();
            assert!(err.contains("expected 1 to 63"), "{err}");
        }
    }
}
