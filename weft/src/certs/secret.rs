//! `weft certs secret`: the CA of a cluster as a Kubernetes Secret, made by a Job before anything is installed.
//!
//! It only ever creates: that is all its Role has to allow, and nobody's certificates are locked out by a second run. One
//! request to the API server, with the token, CA and namespace that Kubernetes mounts into every pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_service::certs::Ca;
use weft_types::Name;

/// Longest wait for the API server.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most of its answer that is read: what it says of a Secret of two small texts.
const ANSWER_MAX: usize = 256 * 1024;

/// Which Secret, and where the API server is.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// Name of the Secret.
    #[arg(long)]
    name: String,
    /// Name of the cluster; it stands in every certificate.
    #[arg(long, default_value = "weft")]
    cluster: Name,
    /// Labels of the Secret, such as `app.kubernetes.io/part-of=weft`.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// The API server, name and port.
    #[arg(long, default_value = "kubernetes.default.svc:443")]
    server: String,
    /// Folder with `token`, `ca.crt` and `namespace` of the pod's service account.
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    account: PathBuf,
}

/// Creates it, or finds that it is there.
pub(crate) async fn run(args: &SecretArgs) -> anyhow::Result<()> {
    let account = |file: &str| read(&args.account.join(file));
    let (token, trusted, namespace) = (account("token")?, account("ca.crt")?, account("namespace")?);
    let secret = secret(&Ca::create(args.cluster.as_str())?, args)?;
    let request = Request::post(format!("/api/v1/namespaces/{}/secrets", namespace.trim()))
        .header(header::HOST, &args.server)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(secret.to_string())))?;
    let asking = tokio::time::timeout(DEADLINE, send(&args.server, &trusted, request)).await;
    let (status, answer) = asking.with_context(|| format!("{} did not answer within {DEADLINE:?}", args.server))??;
    match status {
        StatusCode::CREATED => println!("Secret {}: a new CA of cluster '{}'", args.name, args.cluster),
        StatusCode::CONFLICT => println!("Secret {} is there already and stays as it is", args.name),
        other => bail!("the API server refused to create Secret {}: {other}: {}", args.name, message(&answer)),
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: this runs in a pod that mounts its service account", path.display()))
}

fn secret(ca: &Ca, args: &SecretArgs) -> anyhow::Result<Value> {
    let mut labels = serde_json::Map::new();
    for label in &args.labels {
        let Some((key, value)) = label.split_once('=') else { bail!("--label '{label}': expected KEY=VALUE") };
        labels.insert(key.to_owned(), value.into());
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": args.name, "labels": labels },
        "type": "Opaque",
        "stringData": { "ca.pem": ca.cert_pem(), "ca.key": ca.key_pem() },
    }))
}

async fn send(server: &str, trusted: &str, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(root.context("ca.crt of the service account is not PEM")?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let stream = TcpStream::connect(server).await.with_context(|| format!("cannot reach {server}"))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    driving.abort();
    let body = body.map_err(|error| anyhow::anyhow!("cannot read the API server's answer: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// What the API server says in a `Status` object.
fn message(answer: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(answer).ok();
    let text = status.as_ref().and_then(|status| status["message"].as_str());
    text.map_or_else(|| String::from_utf8_lossy(answer).trim().to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests;
