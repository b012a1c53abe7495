//! Calls.

use std::time::Duration;

use weft_service::certs::Ca;
use weft_transport::{CallError, Profile, RefusalCode, Routes};
use weft_types::Role;
use weft_types::rpc::Method;

use crate::world::{Count, CountTo, EVERYBODY, Echo, Hang, Peer, SOON, Text, Witness, bind, identity, soon, text};

fn pair(routes: Routes) -> (Peer, Peer) {
    let ca = Ca::create("test").unwrap();
    let server = bind(&identity(&ca, Role::Metadata, "1"), Profile::Control);
    server.fabric.serve(routes);
    (server, bind(&identity(&ca, Role::Node, "n1"), Profile::Control))
}

fn echo() -> Routes {
    Routes::new().rpc::<Echo, _, _>(EVERYBODY, |_, request| async move { Ok(request) })
}

#[tokio::test]
async fn a_call_brings_its_answer_over_one_connection() {
    let (server, client) = pair(echo());
    let to = server.target();
    for word in ["", "hello", &"x".repeat(90_000)] {
        let answer = client.fabric.call::<Echo>(&to, &text(word), SOON).await.unwrap();
        assert_eq!(answer, text(word));
    }
    assert_eq!(client.count("weft_transport_dials_total", &["ok"]), 1);
    assert_eq!(client.count("weft_transport_requests_total", &["call", "ok"]), 3);
    assert_eq!(server.count("weft_transport_served_total", &["call", "ok"]), 3);
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_dial() {
    let (server, client) = pair(echo());
    let to = server.target();
    let calls: Vec<_> = (0..50)
        .map(|i| {
            let (fabric, to) = (client.fabric.clone(), to.clone());
            tokio::spawn(async move { fabric.call::<Echo>(&to, &text(&i.to_string()), SOON).await.unwrap() })
        })
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), text(&i.to_string()));
    }
    assert_eq!(client.count("weft_transport_dials_total", &[]), 1);
}

#[tokio::test]
async fn the_handler_knows_who_calls() {
    let (server, client) =
        pair(Routes::new().rpc::<Echo, _, _>(EVERYBODY, |peer, _| async move { Ok(text(&peer.to_string())) }));
    let answer = client.fabric.call::<Echo>(&server.target(), &text(""), SOON).await.unwrap();
    assert_eq!(answer, text("weft://test/node/n1"));
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_its_handler() {
    let witness = Witness::default();
    let seen = witness.clone();
    let (server, client) = pair(echo().rpc::<Hang, _, _>(EVERYBODY, move |_, ()| {
        let held = seen.begin();
        async move {
            let _held = held;
            std::future::pending().await
        }
    }));
    let to = server.target();
    client.fabric.call::<Echo>(&to, &text("connect"), SOON).await.unwrap();
    let call = client.fabric.call::<Hang>(&to, &(), Duration::from_secs(1));
    let (outcome, ()) = tokio::join!(call, witness.begun());
    assert!(matches!(outcome, Err(CallError::Deadline { method: "hang", .. })), "{outcome:?}");
    witness.dropped().await;
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler_and_no_other() {
    let witness = Witness::default();
    let seen = witness.clone();
    let (server, client) = pair(echo().rpc::<Hang, _, _>(EVERYBODY, move |_, ()| {
        let held = seen.begin();
        async move {
            let _held = held;
            std::future::pending().await
        }
    }));
    let (fabric, to) = (client.fabric.clone(), server.target());
    let call = tokio::spawn(async move { fabric.call::<Hang>(&to, &(), SOON).await });
    witness.begun().await;
    client.fabric.call::<Echo>(&server.target(), &text("meanwhile"), SOON).await.unwrap();
    assert!(!witness.is_dropped(), "the handler lives while its caller waits");
    call.abort();
    witness.dropped().await;
    client.fabric.call::<Echo>(&server.target(), &text("after"), SOON).await.unwrap();
    assert_eq!(client.count("weft_transport_dials_total", &[]), 1, "the connection outlives the stream");
}

/// The same number as `Echo`, with a request of another shape.
struct Garbled;
impl Method for Garbled {
    const ID: u16 = Echo::ID;
    const NAME: &'static str = "garbled";
    type Request = Count;
    type Response = Text;
}

/// The same number as `Echo`, allowed to send more.
struct Longer;
impl Method for Longer {
    const ID: u16 = Echo::ID;
    const NAME: &'static str = "longer";
    type Request = Text;
    type Response = Text;
}

async fn refusal<M: Method>(peers: &(Peer, Peer), request: &M::Request) -> (RefusalCode, String)
where
    M::Response: std::fmt::Debug,
{
    match peers.1.fabric.call::<M>(&peers.0.target(), request, SOON).await {
        Err(CallError::Refused { refusal, .. }) => (refusal.code, refusal.message),
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_server_refuses_has_a_code_and_a_reason() {
    let peers = pair(echo().subscription::<CountTo, _, _>(EVERYBODY, |_, _, _| async { Ok(()) }));

    let (code, message) = refusal::<Hang>(&peers, &()).await;
    assert_eq!(code, RefusalCode::UnknownMethod);
    assert!(message.contains("no method 60002 here"), "{message}");

    let (code, message) = refusal::<Garbled>(&peers, &Count(200)).await;
    assert_eq!(code, RefusalCode::BadRequest);
    assert!(message.contains("echo: not a"), "{message}");

    let (code, message) = refusal::<Longer>(&peers, &text(&"x".repeat(200_000))).await;
    assert_eq!(code, RefusalCode::BadRequest);
    assert!(message.contains("at most 100000 allowed"), "{message}");

    let (code, message) = refusal::<CountTo>(&peers, &Count(1)).await;
    assert_eq!(code, RefusalCode::BadRequest);
    assert!(message.contains("to subscribe to"), "{message}");

    assert_eq!(peers.0.count("weft_transport_served_total", &["call", "bad_request"]), 3);
    assert_eq!(peers.0.count("weft_transport_served_total", &["call", "unknown_method"]), 1);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let (server, client) = pair(echo());
    let outcome = client.fabric.call::<Echo>(&server.target(), &text(&"x".repeat(100_000)), SOON).await;
    assert!(matches!(outcome, Err(CallError::TooLong { method: "echo", len: 100_005, max: 100_000 })), "{outcome:?}");
    assert_eq!(server.count("weft_transport_served_total", &[]), 0);
}

#[tokio::test]
async fn beyond_the_bound_calls_are_refused_as_overloaded() {
    let witness = Witness::default();
    let seen = witness.clone();
    let routes = echo().calls_max(1).rpc::<Hang, _, _>(EVERYBODY, move |_, ()| {
        let held = seen.begin();
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    let peers = pair(routes);
    let (fabric, to) = (peers.1.fabric.clone(), peers.0.target());
    let call = tokio::spawn(async move { fabric.call::<Hang>(&to, &(), SOON).await });
    witness.begun().await;
    let (code, message) = refusal::<Echo>(&peers, &text("one too many")).await;
    assert_eq!(code, RefusalCode::Overloaded);
    assert!(message.contains("try later or elsewhere"), "{message}");

    call.abort();
    witness.dropped().await;
    // The room is given back with the handler, or a moment later: asked until it is there.
    soon(async { while peers.1.fabric.call::<Echo>(&peers.0.target(), &text("room"), SOON).await.is_err() {} }).await;
}
