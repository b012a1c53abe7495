//! Certificates that are revoked, that end, and that are replaced, while connections are open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use weft_service::certs::{Ca, Issued, serial_of};
use weft_transport::{CallError, Credentials, Identity, Metrics, RenewError, Routes};
use weft_types::Serial;

use crate::world::{EVERYBODY, Echo, Hang, Peer, SOON, Witness, bind_with, soon, text};

fn parsed(ca: &Ca, issued: &Issued) -> Identity {
    Identity::from_pem(&issued.cert, &issued.key, ca.cert_pem()).unwrap()
}

fn serial(issued: &Issued) -> Serial {
    Serial::from_bytes(&serial_of(&issued.cert).unwrap()).unwrap()
}

fn list(serials: &[Serial]) -> Arc<BTreeSet<Serial>> {
    Arc::new(serials.iter().cloned().collect())
}

fn peer(ca: &Ca, issued: &Issued) -> (Peer, Credentials) {
    let identity = parsed(ca, issued);
    let credentials = Credentials::from(&identity);
    (bind_with(&credentials, &identity), credentials)
}

/// A server that echoes, and hangs; the witness says when it does.
fn server(ca: &Ca) -> (Peer, Credentials, Witness) {
    let (server, credentials) = peer(ca, &ca.issue("metadata", "1", 1).unwrap());
    let witness = Witness::default();
    let hanging = witness.clone();
    let hang = move |_, ()| {
        let held = hanging.begin();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(())
        }
    };
    let routes = Routes::new().rpc::<Echo, _, _>(EVERYBODY, |_, asked| async { Ok(asked) });
    server.fabric.serve(routes.rpc::<Hang, _, _>(EVERYBODY, hang));
    (server, credentials, witness)
}

async fn echo(client: &Peer, server: &Peer) -> Result<(), CallError> {
    client.fabric.call::<Echo>(&server.target(), &text("x"), SOON).await.map(drop)
}

#[tokio::test]
async fn a_revoked_certificate_is_cut_off_and_refused_until_it_is_reinstated() {
    let ca = Ca::create("prod").unwrap();
    let (server, deny, witness) = server(&ca);
    let issued = ca.issue("node", "n1", 1).unwrap();
    let (client, _) = peer(&ca, &issued);
    let (other, _) = peer(&ca, &ca.issue("node", "n2", 1).unwrap());
    echo(&other, &server).await.unwrap();

    let to = server.target();
    let hanging = client.fabric.call::<Hang>(&to, &(), SOON);
    let revoking = async {
        witness.begun().await;
        deny.revoke(&list(&[serial(&issued)]));
    };
    let (cut, ()) = soon(async { tokio::join!(hanging, revoking) }).await;
    let cut = cut.unwrap_err();
    assert!(matches!(cut, CallError::Broken { .. }) && cut.to_string().contains("is revoked"), "{cut}");
    witness.dropped().await;

    let refused = echo(&client, &server).await.unwrap_err().to_string();
    assert!(refused.contains("the peer refused us") && refused.contains("which is revoked"), "{refused}");
    assert_eq!(server.count("weft_transport_refused_peers_total", &["revoked"]), 2);
    echo(&other, &server).await.unwrap();
    assert_eq!(other.count("weft_transport_dials_total", &["ok"]), 1, "whoever is not revoked keeps its connection");

    deny.revoke(&list(&[]));
    echo(&client, &server).await.unwrap();
}

#[tokio::test]
async fn a_client_refuses_a_revoked_server() {
    let ca = Ca::create("prod").unwrap();
    let issued = ca.issue("metadata", "1", 1).unwrap();
    let (serving, _) = peer(&ca, &issued);
    serving.fabric.serve(Routes::new().rpc::<Echo, _, _>(EVERYBODY, |_, asked| async { Ok(asked) }));
    let (client, deny) = peer(&ca, &ca.issue("node", "n1", 1).unwrap());
    deny.revoke(&list(&[serial(&issued)]));
    let refused = echo(&client, &serving).await.unwrap_err().to_string();
    assert!(refused.contains("we refused the peer") && refused.contains("which is revoked"), "{refused}");
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let ca = Ca::create("prod").unwrap();
    let (server, _, witness) = server(&ca);
    let (client, _) = peer(&ca, &ca.issue_for("node", "n1", Duration::from_secs(3)).unwrap());
    let cut = client.fabric.call::<Hang>(&server.target(), &(), SOON).await.unwrap_err();
    // Either side may be the first to cut.
    assert!(matches!(cut, CallError::Broken { .. }), "{cut}");
    witness.dropped().await;
    let refused = echo(&client, &server).await.unwrap_err().to_string();
    assert!(refused.contains("has ended"), "{refused}");
    assert!(server.count("weft_transport_refused_peers_total", &["expired"]) >= 1);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_call_on() {
    let ca = Ca::create("prod").unwrap();
    let (server, deny, witness) = server(&ca);
    let (old, new) = (ca.issue("node", "n1", 1).unwrap(), ca.issue("node", "n1", 2).unwrap());
    let (client, credentials) = peer(&ca, &old);
    echo(&client, &server).await.unwrap();
    let metrics = Metrics::register(&Registry::new());
    let to = server.target();
    let renewing = async {
        witness.begun().await;
        credentials.renew(&new.cert, &new.key, ca.cert_pem(), &metrics).unwrap();
        echo(&client, &server).await.unwrap();
        assert_eq!(client.count("weft_transport_dials_total", &["ok"]), 2);
        assert!(!witness.is_dropped(), "what is under way goes on over the old connection");
        deny.revoke(&list(&[serial(&old)]));
    };
    let (cut, ()) = soon(async { tokio::join!(client.fabric.call::<Hang>(&to, &(), SOON), renewing) }).await;
    assert!(cut.unwrap_err().to_string().contains("is revoked"));
    echo(&client, &server).await.unwrap();
    assert_eq!(client.count("weft_transport_dials_total", &["ok"]), 2);
}

#[tokio::test]
async fn somebody_elses_certificate_is_not_taken_up() {
    let ca = Ca::create("prod").unwrap();
    let (server, ..) = server(&ca);
    let (client, credentials) = peer(&ca, &ca.issue("node", "n1", 1).unwrap());
    let registry = Registry::new();
    let metrics = Metrics::register(&registry);
    let other = ca.issue("node", "n2", 1).unwrap();
    let refused = credentials.renew(&other.cert, &other.key, ca.cert_pem(), &metrics).unwrap_err();
    assert!(matches!(refused, RenewError::Another { .. }), "{refused}");
    let stale = credentials.renew(&other.cert, "", ca.cert_pem(), &metrics).unwrap_err();
    assert!(matches!(stale, RenewError::Identity(_)), "{stale}");
    echo(&client, &server).await.unwrap();
    echo(&client, &server).await.unwrap();
    assert_eq!(client.count("weft_transport_dials_total", &["ok"]), 1);
}

#[tokio::test]
async fn a_connection_that_was_let_go_ends_with_its_last_request() {
    let ca = Ca::create("prod").unwrap();
    let (server, _, witness) = server(&ca);
    let (client, _) = peer(&ca, &ca.issue("node", "n1", 1).unwrap());
    let to = server.target();
    let hanging = client.fabric.call::<Hang>(&to, &(), SOON);
    let letting_go = async {
        witness.begun().await;
        client.fabric.redial(&to);
        echo(&client, &server).await.unwrap();
        assert!(!witness.is_dropped());
    };
    tokio::select! {
        _ = hanging => unreachable!("it never answers"),
        () = letting_go => {}
    }
    witness.dropped().await;
    assert_eq!(client.count("weft_transport_dials_total", &["ok"]), 2);
}
