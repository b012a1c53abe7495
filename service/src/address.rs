//! Addresses given as `host:port`. A name is looked up once, while the configuration is read: it has to stand for an address
//! that stays, such as that of a Kubernetes Service, for as long as the process lives.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Deserializer};

/// Why a text is no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Neither `ip:port` nor `name:port`.
    #[error("'{0}' is not an address: expected ip:port or name:port, such as 10.0.0.1:7400")]
    Form(String),
    /// The name is not known here.
    #[error("the name in '{text}' cannot be looked up: check it, and that DNS answers on this host")]
    Lookup {
        /// As given.
        text: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
}

/// Looks up a name; an IP address is taken as it is.
///
/// # Errors
/// Not an address, or a name that is not known.
pub fn resolve(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(|| AddressError::Form(text.to_owned()))?;
    let port: u16 = port.parse().map_err(|_| AddressError::Form(text.to_owned()))?;
    // What is left of a name then is an IPv6 address without its brackets.
    if name.is_empty() || name.contains(':') {
        return Err(AddressError::Form(text.to_owned()));
    }
    let lookup = |source| AddressError::Lookup { text: text.to_owned(), source };
    let mut found = (name, port).to_socket_addrs().map_err(lookup)?;
    found.next().ok_or_else(|| lookup(std::io::Error::other("no address is listed under it")))
}

/// An address of a configuration that may be given by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        resolve(&text).map(Self).map_err(|error| serde::de::Error::custom(crate::run::chain(&error)))
    }
}

/// Addresses that may be given by name: `#[serde(deserialize_with = "weft_service::address::list")]`.
///
/// # Errors
/// The first that is none.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<Address>::deserialize(deserializer)?.into_iter().map(|Address(addr)| addr).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_or_a_name_with_a_port() {
        assert_eq!(resolve("10.0.0.1:7400").unwrap(), SocketAddr::from(([10, 0, 0, 1], 7400)));
        assert_eq!(resolve("[::1]:7400").unwrap().port(), 7400);
        let local = resolve("localhost:7400").unwrap();
        assert!(local.ip().is_loopback() && local.port() == 7400, "{local}");
    }

    #[test]
    fn what_is_no_address_is_told_from_what_nobody_knows() {
        for text in ["", "7400", "10.0.0.1", ":7400", "host:port", "::1:7400", "host:70000"] {
            assert!(matches!(resolve(text), Err(AddressError::Form(_))), "{text}");
        }
        // RFC 6761 keeps `.invalid` free of names for good.
        let error = resolve("weft.invalid:7400").unwrap_err();
        assert!(error.to_string().contains("'weft.invalid:7400' cannot be looked up"), "{error}");
    }
}
