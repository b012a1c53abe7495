//! Whoever should not be talked to is refused, and both sides say so: what was presented, what was expected, what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use weft_service::certs::{Ca, Issued};
use weft_transport_proto::{RefusalCode, VersionRange};
use weft_types::Role;
use weft_types::rpc::Method;

use crate::{CallError, Fabric, Identity, Metrics, Profile, Routes, Target};

const SOON: Duration = Duration::from_secs(20);

struct Ping;
impl Method for Ping {
    const ID: u16 = 60_000;
    const NAME: &'static str = "ping";
    type Request = ();
    type Response = ();
}

/// Log lines of everything that happens on this thread: both sides of a single-threaded test.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<String>, Notify)>);

impl Lines {
    fn capture(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false).without_time().finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// The warning that a side wrote.
    async fn warning(&self, side: &Identity) -> String {
        let me = format!("me={}", side.me);
        let found = async {
            loop {
                let text = self.0.0.lock().clone();
                if let Some(line) = text.lines().find(|line| line.contains("WARN") && line.contains(&me)) {
                    return line.to_owned();
                }
                self.0.1.notified().await;
            }
        };
        tokio::time::timeout(SOON, found)
            .await
            .unwrap_or_else(|_| panic!("no warning of {me} in:\n{}", self.0.0.lock()))
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().push_str(&String::from_utf8_lossy(bytes));
        self.0.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A certificate of the first CA, for a process that trusts all of them.
fn identity(role: Role, name: &str, trusted: &[&Ca]) -> Identity {
    let Issued { cert, key } = trusted[0].issue(role.as_str(), name, 1).unwrap();
    let roots: String = trusted.iter().map(|ca| ca.cert_pem()).collect();
    Identity::from_pem(&cert, &key, &roots).unwrap()
}

struct Outcome {
    error: CallError,
    client: String,
    server: String,
    /// Labels of `weft_transport_refused_peers_total`, of either side.
    reasons: Vec<String>,
}

impl Outcome {
    fn assert_refused_by_server(&self, reason: &str, clauses: &[&str]) {
        assert!(matches!(self.error, CallError::Connect { .. }), "{}", self.error);
        assert!(self.server.contains("refused a peer: it presented"), "{}", self.server);
        assert!(self.client.contains("a peer refused us: we presented"), "{}", self.client);
        self.assert_told(reason, clauses);
    }

    fn assert_refused_by_client(&self, reason: &str, clauses: &[&str]) {
        assert!(matches!(self.error, CallError::Connect { .. }), "{}", self.error);
        assert!(self.client.contains("refused a peer: it presented"), "{}", self.client);
        assert!(self.server.contains("a peer refused us: we presented"), "{}", self.server);
        self.assert_told(reason, clauses);
    }

    fn assert_told(&self, reason: &str, clauses: &[&str]) {
        for clause in clauses {
            assert!(self.client.contains(clause), "'{clause}' is not in the client's line: {}", self.client);
            assert!(self.server.contains(clause), "'{clause}' is not in the server's line: {}", self.server);
            assert!(self.error.to_string().contains(clause), "'{clause}' is not in the error: {}", self.error);
        }
        assert_eq!(self.reasons, [reason]);
    }
}

fn fabric(identity: &Identity, versions: VersionRange, registry: &Registry) -> Fabric {
    let addr = "127.0.0.1:0".parse().unwrap();
    Fabric::bind_speaking(versions, addr, Profile::Control.into(), identity.into(), Metrics::register(registry))
        .unwrap()
}

async fn call_speaking(
    (client, client_speaks): (&Identity, VersionRange),
    (server, server_speaks): (&Identity, VersionRange),
    role: Role,
    name: Option<&str>,
) -> Result<(), Outcome> {
    let lines = Lines::default();
    let _capturing = lines.capture();
    let registries = [Registry::new(), Registry::new()];
    let serving = fabric(server, server_speaks, &registries[0]);
    serving.serve(Routes::new().rpc::<Ping, _, _>(&[Role::Router, Role::Node], |_, ()| async { Ok(()) }));
    let calling = fabric(client, client_speaks, &registries[1]);
    let to = Target { addr: serving.local_addr(), role, name: name.map(|name| name.parse().unwrap()) };
    let Err(error) = calling.call::<Ping>(&to, &(), SOON).await else { return Ok(()) };
    let (client, server) = (lines.warning(client).await, lines.warning(server).await);
    Err(Outcome { error, client, server, reasons: registries.iter().flat_map(reasons).collect() })
}

async fn call(client: &Identity, server: &Identity, role: Role, name: Option<&str>) -> Result<(), Outcome> {
    call_speaking((client, VersionRange::OURS), (server, VersionRange::OURS), role, name).await
}

fn reasons(registry: &Registry) -> Vec<String> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "weft_transport_refused_peers_total");
    let metrics = family.into_iter().flat_map(|family| family.get_metric());
    let counted = metrics.filter(|metric| metric.get_counter().get_value() > 0.0);
    counted.flat_map(|metric| metric.get_label()).map(|label| label.value().to_owned()).collect()
}

async fn refused(client: &Identity, server: &Identity, role: Role, name: Option<&str>) -> Outcome {
    call(client, server, role, name).await.expect_err("this call must be refused")
}

#[tokio::test]
async fn peers_of_one_cluster_talk() {
    let ca = Ca::create("a").unwrap();
    let (client, server) = (identity(Role::Node, "n1", &[&ca]), identity(Role::Metadata, "1", &[&ca]));
    assert!(call(&client, &server, Role::Metadata, Some("1")).await.is_ok());
    assert!(call(&client, &server, Role::Metadata, None).await.is_ok());
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let ca = Ca::create("a").unwrap();
    let (mut client, server) = (identity(Role::Node, "n1", &[&ca]), identity(Role::Metadata, "1", &[&ca]));
    client.certified = Arc::new(CertifiedKey::new(Vec::new(), Arc::clone(&client.certified.key)));
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_server(
        "no_certificate",
        &[
            "presented no certificate; expected one of weft://a/*/*",
            "issue it with `weft certs issue` and configure it",
        ],
    );
}

#[tokio::test]
async fn a_caller_of_another_ca_is_refused() {
    let (ours, theirs) = (Ca::create("a").unwrap(), Ca::create("a").unwrap());
    // The caller trusts our CA too; otherwise it would refuse us first.
    let (client, server) = (identity(Role::Node, "n1", &[&theirs, &ours]), identity(Role::Metadata, "1", &[&ours]));
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_server(
        "untrusted",
        &[
            "a certificate that claims weft://a/node/n1, issued by 'CN=weft CA of a'",
            "which our CA does not vouch for",
            "expected one of weft://a/*/*",
            "issue it from this cluster's CA",
        ],
    );
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ours, theirs) = (Ca::create("a").unwrap(), Ca::create("a").unwrap());
    let (client, server) = (identity(Role::Node, "n1", &[&ours]), identity(Role::Metadata, "1", &[&theirs]));
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_client(
        "untrusted",
        &["a certificate that claims weft://a/metadata/1", "which our CA does not vouch for"],
    );
}

#[tokio::test]
async fn a_caller_of_another_cluster_is_refused() {
    let (a, b) = (Ca::create("a").unwrap(), Ca::create("b").unwrap());
    let both = [&a, &b];
    let mut client = identity(Role::Node, "n1", &[&b, &a]);
    let server = identity(Role::Metadata, "1", &both);
    // It would refuse us first, as of another cluster: it only pretends to be of ours.
    client.me.cluster = server.me.cluster.clone();
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_server(
        "cluster",
        &["presented weft://b/node/n1; expected weft://a/*/*", "one of the two is configured for another cluster"],
    );
}

#[tokio::test]
async fn a_server_of_another_cluster_is_refused() {
    let (a, b) = (Ca::create("a").unwrap(), Ca::create("b").unwrap());
    let (client, server) = (identity(Role::Node, "n1", &[&a, &b]), identity(Role::Metadata, "1", &[&b, &a]));
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_client("cluster", &["presented weft://b/metadata/1; expected weft://a/metadata/*"]);
}

#[tokio::test]
async fn a_server_of_another_role_or_name_is_refused() {
    let ca = Ca::create("a").unwrap();
    let (client, server) = (identity(Role::Node, "n1", &[&ca]), identity(Role::Node, "n2", &[&ca]));
    let remedy = "the address leads to another process, or its certificate is of the wrong role or name";
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    outcome.assert_refused_by_client("role", &["presented weft://a/node/n2; expected weft://a/metadata/*", remedy]);
    let outcome = refused(&client, &server, Role::Node, Some("n3")).await;
    outcome.assert_refused_by_client("role", &["presented weft://a/node/n2; expected weft://a/node/n3", remedy]);
}

#[tokio::test]
async fn a_caller_whose_role_may_not_call_is_refused() {
    let ca = Ca::create("a").unwrap();
    let (client, server) = (identity(Role::Admin, "ops", &[&ca]), identity(Role::Metadata, "1", &[&ca]));
    let outcome = refused(&client, &server, Role::Metadata, None).await;
    let CallError::Refused { refusal, .. } = &outcome.error else { panic!("{}", outcome.error) };
    assert_eq!(refusal.code, RefusalCode::Forbidden);
    outcome.assert_told(
        "forbidden",
        &[
            "ping was asked by weft://a/admin/ops",
            "expected a certificate of role router or node",
            "issue one with `weft certs issue`",
        ],
    );
    assert!(outcome.server.contains("refused a request"), "{}", outcome.server);
    assert!(outcome.client.contains("a peer refused our request"), "{}", outcome.client);
}

fn speaking(min: u16, max: u16) -> VersionRange {
    VersionRange::new(min, max).unwrap()
}

#[tokio::test]
async fn neighbouring_releases_talk_and_distant_ones_are_told_why_not() {
    let ca = Ca::create("a").unwrap();
    let (client, server) = (identity(Role::Node, "n1", &[&ca]), identity(Role::Metadata, "1", &[&ca]));
    let between = async |ours, theirs| call_speaking((&client, ours), (&server, theirs), Role::Metadata, None).await;
    assert!(between(speaking(1, 1), speaking(1, 2)).await.is_ok());
    assert!(between(speaking(2, 3), speaking(1, 2)).await.is_ok());
    let Err(outcome) = between(speaking(1, 2), speaking(3, 4)).await else { panic!("they have no version in common") };
    assert!(matches!(outcome.error, CallError::Connect { .. }), "{}", outcome.error);
    for line in [&outcome.client, &outcome.server] {
        assert!(line.contains("no version in common") && line.contains("upgrade one release at a time"), "{line}");
    }
    assert!(outcome.reasons.contains(&"version".to_owned()), "{:?}", outcome.reasons);
}
