//! API keys: shown once to whoever makes one, kept as a hash by everybody else.
//!
//! ```text
//!   weft_<key id>_<64 hexadecimal digits>
//! ```
//! The secret has 256 random bits, so a fast hash protects it as well as a slow one would.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::KeyId;

const PREFIX: &str = "weft_";

/// A whole key. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: KeyId,
    secret: [u8; 32],
}

/// BLAKE3 of a whole key.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash([u8; 32]);

/// A text that is no hash of an API key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the hash of an API key: expected 64 hexadecimal digits, as `weft tenant key make` shows it")]
pub struct ParseKeyHashError;

/// A text that is no API key. Says nothing of the text: it may be a mistyped secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an API key: expected weft_<id>_<64 hexadecimal digits>, as `weft tenant key add` shows it")]
pub struct ParseApiKeyError;

impl ApiKey {
    /// From its id and 32 random bytes.
    #[must_use]
    pub fn new(id: KeyId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// What it is listed by.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// As a caller presents it. A secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, hex::encode(self.secret))
    }

    /// As metadata keeps it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(blake3::derive_key("weft 2026-11 api key", self.reveal().as_bytes()))
    }
}

impl FromStr for ApiKey {
    type Err = ParseApiKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('_')).ok_or(ParseApiKeyError)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(secret, &mut bytes).map_err(|_| ParseApiKeyError)?;
        Ok(Self { id: id.parse().map_err(|_| ParseApiKeyError)?, secret: bytes })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, secret)", self.id)
    }
}

impl KeyHash {
    /// As a file keeps it: 64 hexadecimal digits. No secret that opens anything, and nobody else's business.
    #[must_use]
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for KeyHash {
    type Err = ParseKeyHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseKeyHashError)?;
        Ok(Self(bytes))
    }
}

impl PartialEq for KeyHash {
    /// In constant time, so that the answer's delay tells nothing about how much of a guess was right.
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_was_shown_and_its_hash_is_that_of_the_whole_text() {
        let key = ApiKey::new("ci_1".parse().unwrap(), [7; 32]);
        let shown = key.reveal();
        assert_eq!(shown, format!("weft_ci_1_{}", "07".repeat(32)));
        assert_eq!(shown.parse::<ApiKey>().unwrap(), key);
        assert_eq!(format!("{key:?}"), "ApiKey(ci_1, secret)");
        let other = ApiKey::new("ci_2".parse().unwrap(), [7; 32]);
        assert_ne!(key.hash(), other.hash());
        assert_eq!(key.hash(), shown.parse::<ApiKey>().unwrap().hash());
        assert_eq!(key.hash().reveal().parse::<KeyHash>().unwrap(), key.hash());
        assert_eq!("07".parse::<KeyHash>(), Err(ParseKeyHashError));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        for bad in ["", "weft_", "weft_a", "weft_a_00", "sk-0123456789", "weft__0707"] {
            let error = bad.parse::<ApiKey>().unwrap_err().to_string();
            assert!(error.contains("weft tenant key add") && (bad.is_empty() || !error.contains(&format!("'{bad}'"))));
        }
    }
}
