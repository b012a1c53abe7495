//! Who a process is: certificate chain, key, and the role and name in its SAN URI.
use weft_types::{Name, Role};

/// A process's certificate, key and the CA it trusts. Made from PEM; clone is cheap.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who the certificate says we are.
    pub me: Peer,
}

/// Who the other side of a connection proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Cluster in the SAN URI.
    pub cluster: Name,
    /// Role in the SAN URI.
    pub role: Role,
    /// Name in the SAN URI.
    pub name: Name,
}

/// Why PEM files are not an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Placeholder.
    #[error("{0}")]
    Invalid(String),
}

impl Identity {
    /// Parses certificate chain, private key and CA certificates (PEM texts).
    pub fn from_pem(_cert: &str, _key: &str, _ca: &str) -> Result<Self, IdentityError> {
        unimplemented!()
    }
}
