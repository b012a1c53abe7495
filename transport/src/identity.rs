//! Who a process is: certificate chain, private key, the CA it trusts, and the name in its SAN URI.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::peer::{self, NotAWeftCertificate, Peer};
use crate::tls;

/// A process's certificate chain and key, and the CA it trusts. Made from PEM texts and checked whole, so that a wrong
/// file is an error at start and not a refused connection later. Clone is cheap.
#[derive(Clone)]
pub struct Identity {
    /// Who our certificate says we are.
    pub me: Peer,
    /// When our certificate ends, in seconds since 1970.
    pub(crate) ends: i64,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
    /// Checks chains of those who connect to us; names are checked on top of it.
    pub(crate) chain_verifier: Arc<dyn ClientCertVerifier>,
    /// Secret that stays the same over restarts: a restarted process can tell peers that their connections are gone.
    pub(crate) reset_secret: [u8; 32],
}

/// Why PEM texts are not an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A text is not PEM, or not of the kind expected.
    #[error("cannot read the {what}: expected PEM as written by `weft certs issue`")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: pem::Error,
    },
    /// The certificate does not say who we are.
    #[error(transparent)]
    Unnamed(#[from] NotAWeftCertificate),
    /// The key and the certificate do not belong together, or are of a kind that TLS does not take.
    #[error("certificate and private key do not fit together: give both files of one `weft certs issue`")]
    Key(#[source] rustls::Error),
    /// The CA is not a certificate that can be trusted.
    #[error("the CA certificate cannot be used: expected the ca.pem of `weft certs init`")]
    Ca(#[source] rustls::Error),
    /// The CA did not issue the certificate, or it is not valid today.
    #[error(
        "our own certificate {me} would be refused by every peer that trusts this CA: issue it with `weft certs issue` from the same CA"
    )]
    Untrusted {
        /// Who it says we are.
        me: Peer,
        /// Why it would be refused.
        #[source]
        source: rustls::Error,
    },
}

impl Identity {
    /// Parses certificate chain (own certificate first), private key and CA certificates, all PEM texts, and checks that they
    /// belong together. Several CA certificates are all trusted: that is how a CA is replaced.
    ///
    /// # Errors
    /// Not PEM, without exactly one SAN URI `weft://<cluster>/<role>/<name>`, a key of another certificate, not issued by the
    /// CA, or expired.
    pub fn from_pem(cert: &str, key: &str, ca: &str) -> Result<Self, IdentityError> {
        Self::from_pem_at(UnixTime::now(), cert, key, ca)
    }

    fn from_pem_at(now: UnixTime, cert: &str, key: &str, ca: &str) -> Result<Self, IdentityError> {
        let chain = certificates("certificate", cert)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|source| IdentityError::Pem { what: "private key", source })?;
        let reset_secret = blake3::derive_key("weft 2026-11 stateless reset", key.secret_der());
        let (me, ends) = (Peer::from_certificate(&chain[0])?, peer::end_of(&chain[0])?);
        let provider = tls::provider();

        let mut roots = RootCertStore::empty();
        for root in certificates("CA certificate", ca)? {
            roots.add(root).map_err(IdentityError::Ca)?;
        }
        let roots = Arc::new(roots);
        let chain_verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .expect("there is at least one root, and no revocation list");
        chain_verifier
            .verify_client_cert(&chain[0], &chain[1..], now)
            .map_err(|source| IdentityError::Untrusted { me: me.clone(), source })?;

        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(IdentityError::Key)?;
        Ok(Self { me, ends, provider, certified: Arc::new(certified), roots, chain_verifier, reset_secret })
    }
}

/// Shows who it is and keeps the key to itself.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("me", &self.me).finish_non_exhaustive()
    }
}

/// One certificate or more.
fn certificates(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err(IdentityError::Pem { what, source: pem::Error::NoItemsFound }),
        Ok(all) => Ok(all),
        Err(source) => Err(IdentityError::Pem { what, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use weft_service::certs::{Ca, Issued};
    use weft_types::Role;

    fn issued(ca: &Ca) -> Issued {
        ca.issue("node", "n1", 1).unwrap()
    }

    #[test]
    fn a_certificate_says_who_we_are() {
        let ca = Ca::create("prod").unwrap();
        let Issued { cert, key } = issued(&ca);
        let identity = Identity::from_pem(&cert, &key, ca.cert_pem()).unwrap();
        assert_eq!((identity.me.role, identity.me.to_string()), (Role::Node, "weft://prod/node/n1".to_owned()));
        assert!(!format!("{identity:?}").contains("Key"), "{identity:?}");
        let left = identity.ends - i64::try_from(UnixTime::now().as_secs()).unwrap();
        assert!((24 * 3600 - 60..=24 * 3600).contains(&left), "{left} s of a day");
    }

    #[test]
    fn an_expired_certificate_is_found_at_start() {
        let ca = Ca::create("prod").unwrap();
        let Issued { cert, key } = issued(&ca);
        let in_two_days = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 2 * 24 * 3600));
        let error = Identity::from_pem_at(in_two_days, &cert, &key, ca.cert_pem()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("our own certificate weft://prod/node/n1 would be refused"), "{error}");
        assert!(cause.contains("expired"), "{cause}");
    }

    #[test]
    fn files_that_do_not_belong_together_are_told_apart() {
        let (ca, other) = (Ca::create("prod").unwrap(), Ca::create("prod").unwrap());
        let (mine, yours) = (issued(&ca), issued(&ca));
        let error = |cert: &str, key: &str, ca: &str| Identity::from_pem(cert, key, ca).unwrap_err();
        assert!(matches!(error(&mine.cert, &yours.key, ca.cert_pem()), IdentityError::Key(_)));
        assert!(matches!(error(&mine.cert, &mine.key, other.cert_pem()), IdentityError::Untrusted { .. }));
        assert!(matches!(error(&mine.key, &mine.key, ca.cert_pem()), IdentityError::Pem { what: "certificate", .. }));
        assert!(matches!(error(&mine.cert, "", ca.cert_pem()), IdentityError::Pem { what: "private key", .. }));
        assert!(matches!(error(&mine.cert, &mine.key, "x"), IdentityError::Pem { what: "CA certificate", .. }));
        assert!(matches!(error(ca.cert_pem(), &mine.key, ca.cert_pem()), IdentityError::Unnamed(_)));
    }
}
