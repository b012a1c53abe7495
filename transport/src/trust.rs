//! Whom we talk to: the chain up to the cluster CA, then the name in the SAN URI. Host names and addresses prove nothing here
//! and are not looked at.
//!
//! One verifier serves both directions. It is made for one connection, so that what it refused, and why, can be told by
//! whoever waits for that connection: see [`HandshakeFailure`].

use std::fmt;
use std::sync::{Arc, OnceLock};

use quinn::ConnectionError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_transport_proto::codes;
use weft_types::{Name, Role, Serial};

use crate::peer::{self, Peer};
use crate::{Credentials, Identity, Target};

#[cfg(test)]
mod tests;

/// Alert `certificate_required` (RFC 8446, section 6.2), as a QUIC error code (RFC 9001, section 4.8).
const NO_CERTIFICATE: u64 = 0x100 + 116;
/// QUIC error codes that carry a TLS alert.
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;
/// How rustls begins the text of [`Error::Other`]; the peer that we refuse gets that text.
const OTHER_ERROR: &str = "other error: ";

/// Whom we expect at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    cluster: Name,
    role: Option<Role>,
    name: Option<Name>,
}

/// Why we refused the other side of a connection.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error("presented no certificate; expected one of {expected}: issue it with `weft certs issue` and configure it")]
    NoCertificate { expected: Expected },
    #[error(
        "presented {claim}, which our CA does not vouch for ({fault}); expected one of {expected}: issue it from this cluster's CA"
    )]
    Untrusted { claim: String, fault: String, expected: Expected },
    #[error(
        "presented {claim}, which has ended or not begun ({fault}); issue another with `weft certs issue`, and look at the clocks of both hosts"
    )]
    Expired { claim: String, fault: String },
    #[error(
        "presented the certificate {serial} of {peer}, which is revoked; issue another with `weft certs issue`, or `weft certs reinstate` it"
    )]
    Revoked { peer: Peer, serial: Serial },
    #[error(
        "presented a certificate of {peer}, and one of our two has ended since; issue others with `weft certs issue`: they are taken up as they are"
    )]
    Ended { peer: Peer },
    #[error("presented {found}; expected one of {expected}: issue it with `weft certs issue`")]
    Unnamed { found: String, expected: Expected },
    #[error("presented {peer}; expected {expected}: one of the two is configured for another cluster")]
    Cluster { peer: Peer, expected: Expected },
    #[error(
        "presented {peer}; expected {expected}: the address leads to another process, or its certificate is of the wrong role or name"
    )]
    Role { peer: Peer, expected: Expected },
    #[error("{0}")]
    Version(weft_transport_proto::NoCommonVersion),
}

/// Why a connection did not come about.
pub(crate) enum HandshakeFailure {
    /// We refused the peer.
    Ours(PeerRefusal),
    /// The peer refused us, and said this.
    Theirs(String),
    /// Unreachable, lost or silent.
    Network(String),
}

/// Verifier of one connection.
#[derive(Debug)]
pub(crate) struct Verifier {
    identity: Identity,
    credentials: Credentials,
    expected: Expected,
    refused: OnceLock<PeerRefusal>,
}

impl Expected {
    /// Anybody of our cluster: what a server expects; its routes look at roles.
    pub(crate) fn anyone(identity: &Identity) -> Self {
        Self { cluster: identity.me.cluster.clone(), role: None, name: None }
    }

    /// A target of a call.
    pub(crate) fn target(identity: &Identity, target: &Target) -> Self {
        Self { cluster: identity.me.cluster.clone(), role: Some(target.role), name: target.name.clone() }
    }

    fn check(&self, peer: Peer) -> Result<(), PeerRefusal> {
        if peer.cluster != self.cluster {
            return Err(PeerRefusal::Cluster { peer, expected: self.clone() });
        }
        let role = self.role.is_none_or(|role| role == peer.role);
        let name = self.name.as_ref().is_none_or(|name| *name == peer.name);
        if role && name { Ok(()) } else { Err(PeerRefusal::Role { peer, expected: self.clone() }) }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: Option<&str>| part.unwrap_or("*").to_owned();
        let (role, name) = (self.role.map(Role::as_str), self.name.as_ref().map(Name::as_str));
        write!(f, "weft://{}/{}/{}", self.cluster, part(role), part(name))
    }
}

impl PeerRefusal {
    /// Metric label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate { .. } => "no_certificate",
            Self::Untrusted { .. } => "untrusted",
            Self::Expired { .. } | Self::Ended { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::Unnamed { .. } => "unnamed",
            Self::Cluster { .. } => "cluster",
            Self::Role { .. } => "role",
            Self::Version(_) => "version",
        }
    }
}

/// The text: rustls puts an error's `Debug` into some of its messages.
impl fmt::Debug for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl HandshakeFailure {
    /// What a failed connection attempt was about.
    pub(crate) fn of(error: &ConnectionError, verifier: &Verifier) -> Self {
        if let Some(refusal) = verifier.refused.get() {
            return Self::Ours(refusal.clone());
        }
        match error {
            ConnectionError::TransportError(ours) if u64::from(ours.code) == NO_CERTIFICATE => {
                Self::Ours(PeerRefusal::NoCertificate { expected: verifier.expected.clone() })
            }
            // The text of this one is rustls' own.
            ConnectionError::ConnectionClosed(theirs) if u64::from(theirs.error_code) == NO_CERTIFICATE => {
                let expected = Expected::anyone(&verifier.identity);
                Self::Theirs(PeerRefusal::NoCertificate { expected }.to_string())
            }
            ConnectionError::ConnectionClosed(theirs) if TLS_ALERTS.contains(&u64::from(theirs.error_code)) => {
                let text = String::from_utf8_lossy(&theirs.reason);
                Self::Theirs(text.strip_prefix(OTHER_ERROR).unwrap_or(&text).to_owned())
            }
            ConnectionError::ApplicationClosed(theirs) if theirs.error_code == codes::VERSION.into() => {
                Self::Theirs(String::from_utf8_lossy(&theirs.reason).into_owned())
            }
            other => Self::Network(other.to_string()),
        }
    }
}

impl Verifier {
    pub(crate) fn new(identity: &Identity, credentials: &Credentials, expected: Expected) -> Arc<Self> {
        let (identity, credentials) = (identity.clone(), credentials.clone());
        Arc::new(Self { identity, credentials, expected, refused: OnceLock::new() })
    }

    /// Whether a peer is whom we expect, and its certificate not on the deny list.
    fn stands(&self, peer: Peer, end_entity: &CertificateDer<'_>) -> Result<(), PeerRefusal> {
        self.expected.check(peer.clone())?;
        match peer::serial_of(end_entity) {
            Some(serial) if self.credentials.is_revoked(&serial) => Err(PeerRefusal::Revoked { peer, serial }),
            Some(_) => Ok(()),
            None => {
                let found = "a certificate without a serial number of 1 to 20 bytes".to_owned();
                Err(PeerRefusal::Unnamed { found, expected: self.expected.clone() })
            }
        }
    }

    /// Judges a certificate whose chain has been looked at.
    fn judge(&self, end_entity: &CertificateDer<'_>, chain: Result<(), Error>) -> Result<(), Error> {
        let expected = || self.expected.clone();
        let verdict = match chain {
            Err(fault) if is_about_time(&fault) => {
                Err(PeerRefusal::Expired { claim: peer::claim(end_entity), fault: fault.to_string() })
            }
            Err(fault) => Err(PeerRefusal::Untrusted {
                claim: peer::claim(end_entity),
                fault: fault.to_string(),
                expected: expected(),
            }),
            Ok(()) => match Peer::from_certificate(end_entity) {
                Ok(peer) => self.stands(peer, end_entity),
                Err(not) => Err(PeerRefusal::Unnamed { found: not.found, expected: expected() }),
            },
        };
        verdict.map_err(|refusal| {
            let _ = self.refused.set(refusal.clone());
            Error::Other(OtherError(Arc::new(refusal)))
        })
    }
}

/// A chain that is good at another time.
fn is_about_time(fault: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let Error::InvalidCertificate(fault) = fault else { return false };
    matches!(fault, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.identity.provider.signature_verification_algorithms.all;
        let chain = ParsedCertificate::try_from(end_entity).and_then(|cert| {
            verify_server_cert_signed_by_trust_anchor(&cert, &self.identity.roots, intermediates, now, algorithms)
        });
        self.judge(end_entity, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.identity.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.identity.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.identity.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate is mandatory: that is the trait's default.
impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.identity.chain_verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.identity.chain_verifier.verify_client_cert(end_entity, intermediates, now);
        self.judge(end_entity, chain.map(|_| ())).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.identity.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.identity.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.identity.provider.signature_verification_algorithms.supported_schemes()
    }
}
