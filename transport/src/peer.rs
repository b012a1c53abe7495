//! Who somebody is in the fabric: the SAN URI of a certificate, parsed.

use std::fmt;

use weft_types::{Name, Role, Serial};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Scheme of the SAN URI.
const SCHEME: &str = "weft://";

/// Who the other side of a connection proved to be. `Display` is its SAN URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Cluster in the SAN URI.
    pub cluster: Name,
    /// Role in the SAN URI.
    pub role: Role,
    /// Name in the SAN URI.
    pub name: Name,
}

/// A certificate that names nobody of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found}: expected a certificate with exactly one SAN URI weft://<cluster>/<role>/<name>, as `weft certs issue` makes it"
)]
pub struct NotAWeftCertificate {
    /// What it has instead.
    pub found: String,
}

impl Peer {
    /// Whom a certificate names. It says nothing about whether the certificate is to be trusted.
    pub(crate) fn from_certificate(der: &[u8]) -> Result<Self, NotAWeftCertificate> {
        let not = |found: String| NotAWeftCertificate { found };
        let (_, cert) = X509Certificate::from_der(der).map_err(|error| not(format!("not a certificate ({error})")))?;
        let uris = weft_uris(&cert);
        match uris.as_slice() {
            [uri] => Self::parse(uri).ok_or_else(|| not(format!("a certificate with the SAN URI {uri:.200}"))),
            [] => Err(not(format!("a certificate of '{}' without a weft SAN URI", cert.subject()))),
            many => Err(not(format!("a certificate with {} weft SAN URIs", many.len()))),
        }
    }

    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        match parts.next() {
            None => Some(Self { cluster: cluster.parse().ok()?, role: role.parse().ok()?, name: name.parse().ok()? }),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// When a certificate ends, in seconds since 1970.
pub(crate) fn end_of(der: &[u8]) -> Result<i64, NotAWeftCertificate> {
    let not = |error| NotAWeftCertificate { found: format!("not a certificate ({error})") };
    let (_, cert) = X509Certificate::from_der(der).map_err(not)?;
    Ok(cert.validity().not_after.timestamp())
}

/// A certificate's serial number; `None`: it is none that a CA may give.
pub(crate) fn serial_of(der: &[u8]) -> Option<Serial> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    Serial::from_bytes(cert.raw_serial())
}

/// What a certificate claims, for a log line about one that is not trusted.
pub(crate) fn claim(der: &[u8]) -> String {
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return "something that is not a certificate".to_owned() };
    let who = weft_uris(&cert).first().map_or_else(|| cert.subject().to_string(), |uri| format!("{uri:.200}"));
    format!("a certificate that claims {who}, issued by '{}', serial {}", cert.issuer(), cert.raw_serial_as_string())
}

fn weft_uris<'a>(cert: &X509Certificate<'a>) -> Vec<&'a str> {
    let Ok(Some(san)) = cert.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'a>| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
        _ => None,
    };
    san.value.general_names.iter().filter_map(uri).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_three_parts_and_a_known_role() {
        let peer = Peer::parse("weft://prod/metadata/1").unwrap();
        assert_eq!((peer.cluster.as_str(), peer.role, peer.name.as_str()), ("prod", Role::Metadata, "1"));
        for bad in [
            "weft://prod/ca",
            "weft://prod/node/n1/x",
            "weft://prod/king/n1",
            "weft:///node/n1",
            "https://prod/node/n1",
        ] {
            assert_eq!(Peer::parse(bad), None, "{bad}");
        }
    }
}
