//! Peers that die without a word, come back, or say goodbye. A death is a runtime shut down under its fabric: its socket is
//! gone and nothing was sent, as after `kill -9`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use weft_service::certs::Ca;
use weft_transport::{CallError, FetchError, Identity, Profile, Routes, Target, Tuning};
use weft_types::Role;

use crate::blocks::{Basket, Shelf, body, request};
use crate::world::{EVERYBODY, Echo, Peer, SOON, bind, bind_at, identity, loopback, soon, text};

/// A server in a runtime of its own.
struct Mortal {
    runtime: Runtime,
    peer: Peer,
}

impl Mortal {
    fn born(addr: SocketAddr, identity: &Identity, tuning: impl Into<Tuning>, routes: Routes) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let peer = {
            let _inside = runtime.enter();
            let peer = bind_at(addr, identity, tuning);
            peer.fabric.serve(routes);
            peer
        };
        Self { runtime, peer }
    }

    fn to(&self) -> Target {
        self.peer.target()
    }

    fn killed(self) {
        self.runtime.shutdown_timeout(SOON);
        // Only now: dropping a fabric that lives is a proper goodbye.
        drop(self.peer);
    }
}

fn echo() -> Routes {
    Routes::new().rpc::<Echo, _, _>(EVERYBODY, |_, request| async move { Ok(request) })
}

#[tokio::test]
async fn a_peer_killed_in_the_middle_of_a_fetch_leaves_what_was_complete() {
    const LEN: usize = 2 << 20;
    // More than any window: the fetch cannot be over when the peer dies.
    const BLOCKS: u32 = 200;
    let ca = Ca::create("test").unwrap();
    let one = body(0, LEN);
    let mut shelf = Shelf::default();
    for number in 0..BLOCKS {
        shelf.put(number, one.clone());
    }
    let routes = Routes::new().blocks(EVERYBODY, Arc::new(shelf));
    let server = Mortal::born(loopback(), &identity(&ca, Role::Node, "n1"), Profile::Bulk, routes);
    let client = bind(&identity(&ca, Role::Node, "n2"), Profile::Bulk);

    let progress = Arc::new(Notify::new());
    let mut basket = Basket::telling(&progress);
    let to = server.to();
    let fetching = client.fabric.fetch(&to, request(0..BLOCKS, LEN), &mut basket, SOON);
    let killing = async {
        progress.notified().await;
        tokio::task::spawn_blocking(|| server.killed()).await.unwrap();
    };
    let (outcome, ()) = soon(async { tokio::join!(fetching, killing) }).await;

    assert!(matches!(outcome, Err(FetchError::Call(CallError::Broken { .. }))), "{outcome:?}");
    assert!(!basket.complete.is_empty() && basket.complete.len() < BLOCKS as usize, "{}", basket.complete.len());
    assert!(basket.complete.values().all(|bytes| *bytes == one));
}

#[tokio::test]
async fn a_call_to_the_dead_costs_its_deadline_and_then_the_connection_is_known_to_be_gone() {
    let ca = Ca::create("test").unwrap();
    let server = Mortal::born(loopback(), &identity(&ca, Role::Metadata, "1"), Profile::Control, echo());
    let to = server.to();
    let client = bind(&identity(&ca, Role::Node, "n1"), Profile::Control);
    client.fabric.call::<Echo>(&to, &text("alive"), SOON).await.unwrap();
    tokio::task::spawn_blocking(|| server.killed()).await.unwrap();

    let deadline = Duration::from_millis(100);
    let outcome = client.fabric.call::<Echo>(&to, &text("anybody?"), deadline).await;
    assert!(matches!(outcome, Err(CallError::Deadline { .. })), "{outcome:?}");
    // Without a deadline in the way, the idle timeout ends the call.
    let outcome = client.fabric.call::<Echo>(&to, &text("anybody?"), SOON).await;
    assert!(matches!(outcome, Err(CallError::Broken { .. })), "{outcome:?}");
    // And the next one is a new attempt to connect, which fails.
    let outcome = client.fabric.call::<Echo>(&to, &text("anybody?"), SOON).await;
    assert!(matches!(outcome, Err(CallError::Connect { .. })), "{outcome:?}");
}

/// A server in its second life, and a client that knew the first one.
async fn restarted() -> (Mortal, Peer) {
    let ca = Ca::create("test").unwrap();
    let server_identity = identity(&ca, Role::Metadata, "1");
    let server = Mortal::born(loopback(), &server_identity, Profile::Control, echo());
    let to = server.to();
    let client = bind(&identity(&ca, Role::Node, "n1"), Profile::Control);
    client.fabric.call::<Echo>(&to, &text("first life"), SOON).await.unwrap();
    tokio::task::spawn_blocking(|| server.killed()).await.unwrap();
    (Mortal::born(to.addr, &server_identity, Profile::Control, echo()), client)
}

/// A restarted process signs a reset of its former life's connections: the first call breaks on that, and not on
/// the idle timeout, and the next one is served.
#[tokio::test]
async fn a_restarted_peer_is_reached_without_waiting_for_a_timeout() {
    let (server, client) = restarted().await;
    let to = server.to();
    let outcome = client.fabric.call::<Echo>(&to, &text("who are you?"), SOON).await;
    assert!(matches!(&outcome, Err(CallError::Broken { reason, .. }) if reason.contains("reset")), "{outcome:?}");
    assert_eq!(client.fabric.call::<Echo>(&to, &text("second life"), SOON).await.unwrap(), text("second life"));
    tokio::task::spawn_blocking(|| server.killed()).await.unwrap();
}

/// Who knows of the restart before any packet does need not lose a call to find out.
#[tokio::test]
async fn a_restarted_peer_that_is_dialled_anew_serves_the_first_call() {
    let (server, client) = restarted().await;
    let to = server.to();
    client.fabric.redial(&to);
    assert_eq!(client.fabric.call::<Echo>(&to, &text("second life"), SOON).await.unwrap(), text("second life"));
    tokio::task::spawn_blocking(|| server.killed()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_closes_tells_its_callers() {
    let ca = Ca::create("test").unwrap();
    let server = bind(&identity(&ca, Role::Metadata, "1"), Profile::Control);
    server.fabric.serve(echo().rpc::<crate::world::Hang, _, _>(EVERYBODY, |_, ()| std::future::pending()));
    let client = bind(&identity(&ca, Role::Node, "n1"), Profile::Control);
    let to = server.target();
    client.fabric.call::<Echo>(&to, &text("hello"), SOON).await.unwrap();
    let calling = client.fabric.call::<crate::world::Hang>(&to, &(), SOON);
    let (outcome, ()) = tokio::join!(calling, server.fabric.close());
    let Err(CallError::Broken { reason, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("going away"), "{reason}");
    let outcome = server.fabric.call::<Echo>(&to, &text("after the end"), SOON).await;
    assert!(matches!(&outcome, Err(CallError::Connect { .. })), "{outcome:?}");
}
