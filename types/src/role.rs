//! What a process may do in the fabric; it stands in its certificate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Role of a certificate holder, the middle of its SAN URI `weft://<cluster>/<role>/<name>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A member of the metadata group.
    Metadata,
    /// A node daemon.
    Node,
    /// A router.
    Router,
    /// An operator's command line.
    Admin,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role: expected metadata, node, router or admin")]
pub struct ParseRoleError(pub String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Node, Self::Router, Self::Admin];

    /// Lower-case word, as in the SAN URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Node => "node",
            Self::Router => "router",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| ParseRoleError(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
