//! TLS in front of the RESP door: its certificate, and the handshake.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::server::TlsStream;

use super::RespFault;
use super::config::RespTls;

/// Longest handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Reads certificate and key.
pub(super) fn acceptor(files: &RespTls) -> Result<TlsAcceptor, RespFault> {
    let read = |path: &PathBuf| fs::read(path).map_err(|source| RespFault::File { path: path.clone(), source });
    let fault = |path: &PathBuf, error: &dyn std::fmt::Display| RespFault::Tls(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_slice_iter(&read(&files.cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| fault(&files.key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| fault(&files.cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands.
pub(super) async fn greet(tls: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
