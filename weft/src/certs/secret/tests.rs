//! Against an API server made of a TLS listener: what it is sent, and what is made of its answers.

use std::fs;

use hyper::service::service_fn;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Sent {
    path: String,
    authorization: String,
    body: Value,
}

/// Serves one request with `status`, runs the command against it, and gives both sides.
async fn ask(status: u16, answer: &'static str) -> (anyhow::Result<()>, Option<Sent>) {
    let folder = tempfile::tempdir().unwrap();
    let of_server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (of_server.cert.pem(), of_server.signing_key.serialize_pem());
    for (file, text) in [("token", "t0ken\n"), ("ca.crt", cert.as_str()), ("namespace", "inference")] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("localhost:{}", listener.local_addr().unwrap().port());
    let sent = Arc::new(Mutex::new(None));
    let taking = Arc::clone(&sent);
    let serving = tokio::spawn(async move {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let taking = Arc::clone(&taking);
            async move {
                let path = request.uri().path().to_owned();
                let authorization = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap();
                *taking.lock() = Some(Sent { path, authorization, body });
                http::Response::builder().status(status).body(Full::new(Bytes::from(answer)))
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    let args = SecretArgs {
        name: "weft-ca".to_owned(),
        cluster: "prod".parse().unwrap(),
        labels: vec!["app.kubernetes.io/part-of=weft".to_owned()],
        server,
        account: folder.path().to_owned(),
    };
    let outcome = run(&args).await;
    serving.abort();
    (outcome, sent.lock().take())
}

#[tokio::test]
async fn the_secret_holds_a_ca_that_certificates_can_be_issued_from() {
    let (outcome, sent) = ask(201, "{}").await;
    outcome.unwrap();
    let Sent { path, authorization, body } = sent.unwrap();
    assert_eq!((path.as_str(), authorization.as_str()), ("/api/v1/namespaces/inference/secrets", "Bearer t0ken"));
    assert_eq!(body["metadata"]["name"], "weft-ca");
    assert_eq!(body["metadata"]["labels"]["app.kubernetes.io/part-of"], "weft");
    // As kubelet would mount it.
    let (mounted, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (file, text) in body["stringData"].as_object().unwrap() {
        fs::write(mounted.path().join(file), text.as_str().unwrap()).unwrap();
    }
    let ca = Ca::load(mounted.path()).unwrap();
    assert_eq!(ca.cluster(), "prod");
    ca.issue_to(out.path(), "metadata", "1", 1).unwrap();
}

#[tokio::test]
async fn one_that_is_there_stays_and_a_refusal_is_told() {
    let (outcome, _) = ask(409, r#"{"message": "secrets \"weft-ca\" already exists"}"#).await;
    outcome.unwrap();
    let (outcome, _) = ask(403, r#"{"message": "secrets is forbidden"}"#).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("403 Forbidden: secrets is forbidden"), "{error}");
}

#[tokio::test]
async fn outside_a_pod_it_says_so() {
    let args = SecretArgs {
        name: "weft-ca".to_owned(),
        cluster: "prod".parse().unwrap(),
        labels: Vec::new(),
        server: "localhost:1".to_owned(),
        account: "/nowhere".into(),
    };
    let error = format!("{:#}", run(&args).await.unwrap_err());
    assert!(error.contains("/nowhere/token") && error.contains("runs in a pod"), "{error}");
}
