//! The cluster's CA and the certificates it issues.
//!
//! A certificate says who its process is in one SAN URI, `weft://<cluster>/<role>/<name>`; the CA says which cluster it is
//! of in `weft://<cluster>/ca`. Host names and addresses are not in them: a process is found through metadata, and proves
//! its role and name, not its address.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;

/// Scheme of the SAN URIs.
const SCHEME: &str = "weft://";
/// A CA lives ten years: replacing it means re-issuing every certificate of the cluster.
const CA_DAYS: i64 = 3650;
/// Certificates begin an hour ago, so that a host whose clock is behind accepts them.
const BACKDATE: Duration = Duration::hours(1);

/// Certificate and key of a cluster's CA.
pub struct Ca {
    cluster: String,
    cert_pem: String,
    key_pem: String,
}

/// A certificate with its key.
pub struct Issued {
    /// Certificate, PEM.
    pub cert: String,
    /// Private key, PEM.
    pub key: String,
}

/// Files of an issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedFiles {
    /// Certificate.
    pub cert: PathBuf,
    /// Private key, mode 0600.
    pub key: PathBuf,
}

/// Why a CA or a certificate was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// The files are there already.
    #[error("{path} exists: a new CA would lock out every certificate of the old one; remove it first if that is meant", path = .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("cannot access {path}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder without a CA.
    #[error("no CA in {folder}: make one with `weft certs init --dir {folder}`, or name its folder with --dir", folder = .0.display())]
    NoCa(PathBuf),
    /// `ca.pem` is not a CA that `weft certs init` made.
    #[error("{path} is not the CA of a weft cluster: expected a certificate with the SAN URI weft://<cluster>/ca; make one with `weft certs init`", path = .0.display())]
    NotACa(PathBuf),
    /// rcgen refused.
    #[error("cannot make the certificate")]
    Make(#[from] rcgen::Error),
}

impl std::fmt::Debug for Ca {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes the CA of a new cluster, in memory.
    ///
    /// # Errors
    /// The key could not be made.
    pub fn create(cluster: &str) -> Result<Self, CertsError> {
        let mut params =
            params(&format!("weft CA of {cluster}"), &format!("{SCHEME}{cluster}/ca"), Duration::days(CA_DAYS))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Self { cluster: cluster.to_owned(), cert_pem, key_pem: key.serialize_pem() })
    }

    /// Makes one and writes `ca.pem` and `ca.key` into a folder.
    ///
    /// # Errors
    /// A CA is there already, or the folder can't be written.
    pub fn init(folder: &Path, cluster: &str) -> Result<Self, CertsError> {
        let (cert, key) = Self::files(folder);
        if let Some(present) = [&cert, &key].into_iter().find(|path| path.exists()) {
            return Err(CertsError::Exists(present.clone()));
        }
        let ca = Self::create(cluster)?;
        std::fs::create_dir_all(folder).map_err(|source| CertsError::Io { path: folder.to_owned(), source })?;
        write(&key, &ca.key_pem, 0o600)?;
        write(&cert, &ca.cert_pem, 0o644)?;
        Ok(ca)
    }

    /// Reads what [`Ca::init`] wrote.
    ///
    /// # Errors
    /// Missing files, or files that are something else.
    pub fn load(folder: &Path) -> Result<Self, CertsError> {
        let (cert, key) = Self::files(folder);
        if !cert.exists() {
            return Err(CertsError::NoCa(folder.to_owned()));
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CertsError::Io { path: path.to_owned(), source })
        };
        let (cert_pem, key_pem) = (read(&cert)?, read(&key)?);
        let cluster = cluster_of(&cert_pem).ok_or(CertsError::NotACa(cert))?;
        Ok(Self { cluster, cert_pem, key_pem })
    }

    /// Issues a certificate for a process, valid from an hour ago for `days`.
    ///
    /// # Errors
    /// The key could not be made.
    pub fn issue(&self, role: &str, name: &str, days: u32) -> Result<Issued, CertsError> {
        self.issue_for(role, name, days_long(days))
    }

    /// As [`Ca::issue`], valid for so long; certificates know whole seconds.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn issue_for(&self, role: &str, name: &str, valid: std::time::Duration) -> Result<Issued, CertsError> {
        let uri = format!("{SCHEME}{}/{role}/{name}", self.cluster);
        let valid = Duration::try_from(valid).unwrap_or(Duration::MAX);
        let mut params = params(&format!("weft {role} {name}"), &uri, valid)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, KeyPair::from_pem(&self.key_pem)?)?;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Issues one and writes `<role>-<name>.pem` and `.key` into a folder, replacing an older one; the folder is made if it is not
    /// there.
    ///
    /// # Errors
    /// As [`Ca::issue`], or the folder can't be written.
    pub fn issue_to(&self, folder: &Path, role: &str, name: &str, days: u32) -> Result<IssuedFiles, CertsError> {
        self.issue_to_for(folder, role, name, days_long(days))
    }

    /// As [`Ca::issue_to`], valid for so long.
    ///
    /// # Errors
    /// As [`Ca::issue_to`].
    pub fn issue_to_for(
        &self,
        folder: &Path,
        role: &str,
        name: &str,
        valid: std::time::Duration,
    ) -> Result<IssuedFiles, CertsError> {
        let issued = self.issue_for(role, name, valid)?;
        let file = |extension: &str| folder.join(format!("{role}-{name}.{extension}"));
        let files = IssuedFiles { cert: file("pem"), key: file("key") };
        std::fs::create_dir_all(folder).map_err(|source| CertsError::Io { path: folder.to_owned(), source })?;
        write(&files.key, &issued.key, 0o600)?;
        write(&files.cert, &issued.cert, 0o644)?;
        Ok(files)
    }

    /// Writes the certificate, and not the key, into another folder: what a process needs there beside its own files.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn publish_to(&self, folder: &Path) -> Result<PathBuf, CertsError> {
        let (cert, _) = Self::files(folder);
        write(&cert, &self.cert_pem, 0o644)?;
        Ok(cert)
    }

    /// The cluster it is of.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its certificate, PEM: what every process trusts.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its private key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Where a folder keeps certificate and key.
    #[must_use]
    pub fn files(folder: &Path) -> (PathBuf, PathBuf) {
        (folder.join("ca.pem"), folder.join("ca.key"))
    }
}

fn days_long(days: u32) -> std::time::Duration {
    std::time::Duration::from_secs(u64::from(days) * 24 * 3600)
}

/// Serial number of a certificate, big-endian; `None`: it is no certificate in PEM.
#[must_use]
pub fn serial_of(cert_pem: &str) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).ok()?;
    Some(pem.parse_x509().ok()?.raw_serial().to_vec())
}

fn params(common_name: &str, uri: &str, valid: Duration) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now.saturating_add(valid);
    Ok(params)
}

fn cluster_of(cert_pem: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).ok()?;
    let cert = pem.parse_x509().ok()?;
    let names = &cert.subject_alternative_name().ok()??.value.general_names;
    names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(uri.strip_prefix(SCHEME)?.strip_suffix("/ca")?.to_owned()),
        _ => None,
    })
}

/// Writes a file whole or not at all, with its mode from the first moment.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let error = |source| CertsError::Io { path: path.to_owned(), source };
    let partial = path.with_added_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial).map_err(error)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
    std::fs::rename(&partial, path).map_err(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_ca_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        Ca::init(folder.path(), "demo").unwrap();
        let ca = Ca::load(folder.path()).unwrap();
        assert_eq!(ca.cluster(), "demo");
        let files = ca.issue_to(folder.path(), "node", "n1", 90).unwrap();
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&files.cert).unwrap().starts_with("-----BEGIN CERTIFICATE"));
        let error = Ca::init(folder.path(), "demo").unwrap_err().to_string();
        assert!(error.contains("lock out"), "{error}");
    }

    #[test]
    fn certificates_are_told_apart_by_their_serials() {
        let ca = Ca::create("demo").unwrap();
        let (one, other) = (ca.issue("node", "n1", 1).unwrap(), ca.issue("node", "n1", 1).unwrap());
        assert_eq!(serial_of(&one.cert), serial_of(&one.cert));
        assert_ne!(serial_of(&one.cert).unwrap(), serial_of(&other.cert).unwrap());
        assert_eq!((serial_of(""), serial_of(&one.key)), (None, None));
    }

    #[test]
    fn another_certificate_is_not_taken_for_a_ca() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::init(folder.path(), "demo").unwrap();
        let error = Ca::load(&folder.path().join("elsewhere")).unwrap_err().to_string();
        assert!(error.contains("weft certs init --dir"), "{error}");
        let issued = ca.issue("node", "n1", 1).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issued.cert).unwrap();
        let error = Ca::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("weft certs init"), "{error}");
    }
}
