//! Subscriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use weft_service::certs::Ca;
use weft_transport::{CallError, Profile, PublishError, Publisher, Refusal, RefusalCode, Routes};
use weft_types::Role;
use weft_types::rpc::Method;

use crate::world::{Count, CountTo, EVERYBODY, Peer, SOON, Text, Witness, bind, identity, soon, text};

fn pair(routes: Routes) -> (Peer, Peer) {
    let ca = Ca::create("test").unwrap();
    let server = bind(&identity(&ca, Role::Metadata, "1"), Profile::Control);
    server.fabric.serve(routes);
    (server, bind(&identity(&ca, Role::Router, "r1"), Profile::Control))
}

async fn count_to(end: u32, mut publisher: Publisher<Count>) -> Result<(), Refusal> {
    for number in 0..end {
        if publisher.publish(&Count(number)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Items of 64 KiB, as many as are taken.
struct Flood;
impl Method for Flood {
    const ID: u16 = 60_010;
    const NAME: &'static str = "flood";
    type Request = ();
    type Response = Text;
}

#[tokio::test]
async fn items_arrive_in_order_and_the_end_is_seen() {
    let (server, client) = pair(
        Routes::new().subscription::<CountTo, _, _>(EVERYBODY, |_, Count(end), publisher| count_to(end, publisher)),
    );
    let mut items = client.fabric.subscribe::<CountTo>(&server.target(), &Count(1000), SOON).await.unwrap();
    for number in 0..1000 {
        assert_eq!(soon(items.next()).await.unwrap(), Some(Count(number)));
    }
    assert_eq!(soon(items.next()).await.unwrap(), None);
    assert_eq!(soon(items.next()).await.unwrap(), None, "the end stays the end");
}

#[tokio::test]
async fn an_interrupted_next_loses_nothing() {
    let (server, client) = pair(
        Routes::new().subscription::<CountTo, _, _>(EVERYBODY, |_, Count(end), publisher| count_to(end, publisher)),
    );
    let mut items = client.fabric.subscribe::<CountTo>(&server.target(), &Count(500), SOON).await.unwrap();
    let mut expected = 0;
    while expected < 500 {
        let mut interrupted = true;
        tokio::select! {
            biased;
            item = items.next() => {
                assert_eq!(item.unwrap(), Some(Count(expected)));
                interrupted = false;
            }
            () = tokio::task::yield_now() => {}
        }
        if !interrupted {
            expected += 1;
        }
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_stops_its_publisher() {
    const ITEM_BYTES: usize = 64 << 10;
    const WINDOW_BYTES: usize = 1 << 20;
    const ITEMS: u32 = 100;
    let (published, full) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (seen, at_window) = (Arc::clone(&published), Arc::clone(&full));
    let (server, client) = pair(Routes::new().subscription::<Flood, _, _>(EVERYBODY, move |_, (), mut publisher| {
        let (seen, at_window) = (Arc::clone(&seen), Arc::clone(&at_window));
        async move {
            for _ in 0..ITEMS {
                publisher.publish(&text(&"x".repeat(ITEM_BYTES))).await.unwrap();
                if seen.fetch_add(1, Ordering::SeqCst) as usize * ITEM_BYTES > WINDOW_BYTES / 2 {
                    at_window.notify_one();
                }
            }
            Ok(())
        }
    }));
    let mut items = client.fabric.subscribe::<Flood>(&server.target(), &(), SOON).await.unwrap();
    soon(full.notified()).await;
    // The publisher has all the time it wants: a round trip on the same connection, while nobody reads.
    for _ in 0..20 {
        let unknown = client.fabric.call::<Flood>(&server.target(), &(), SOON).await;
        assert!(matches!(unknown, Err(CallError::Refused { .. })));
    }
    let ahead = published.load(Ordering::SeqCst) as usize * ITEM_BYTES;
    assert!(ahead <= WINDOW_BYTES, "{ahead} bytes ahead of a reader that reads nothing");
    for _ in 0..ITEMS {
        assert!(soon(items.next()).await.unwrap().is_some());
    }
    assert_eq!(soon(items.next()).await.unwrap(), None);
}

#[tokio::test]
async fn dropping_a_subscription_drops_its_handler() {
    let witness = Witness::default();
    let seen = witness.clone();
    let (server, client) = pair(Routes::new().subscription::<CountTo, _, _>(EVERYBODY, move |_, _, publisher| {
        let held = seen.begin();
        async move {
            let (_held, _publisher) = (held, publisher);
            std::future::pending().await
        }
    }));
    let items = client.fabric.subscribe::<CountTo>(&server.target(), &Count(1), SOON).await.unwrap();
    witness.begun().await;
    assert!(!witness.is_dropped(), "the handler lives while it has a subscriber");
    drop(items);
    witness.dropped().await;
}

#[tokio::test]
async fn a_publisher_sees_that_its_subscriber_has_gone() {
    let saw = Arc::new(Notify::new());
    let told = Arc::clone(&saw);
    let (server, client) = pair(Routes::new().subscription::<CountTo, _, _>(EVERYBODY, move |_, _, mut publisher| {
        // On a task of its own, since the handler itself is dropped.
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            publisher.closed().await;
            assert!(publisher.publish(&Count(0)).await.is_err());
            told.notify_one();
        });
        std::future::pending()
    }));
    let items = client.fabric.subscribe::<CountTo>(&server.target(), &Count(1), SOON).await.unwrap();
    drop(items);
    soon(saw.notified()).await;
}

#[tokio::test]
async fn a_refusal_comes_behind_the_items_before_it() {
    let (server, client) =
        pair(Routes::new().subscription::<CountTo, _, _>(EVERYBODY, |_, Count(end), mut publisher| async move {
            for number in 0..end {
                publisher.publish(&Count(number)).await.unwrap();
            }
            Err(Refusal::new(RefusalCode::Overloaded, "you lag behind; start again from a snapshot"))
        }));
    let mut items = client.fabric.subscribe::<CountTo>(&server.target(), &Count(2), SOON).await.unwrap();
    assert_eq!(soon(items.next()).await.unwrap(), Some(Count(0)));
    assert_eq!(soon(items.next()).await.unwrap(), Some(Count(1)));
    let Err(CallError::Refused { refusal, method: "count_to", .. }) = soon(items.next()).await else {
        panic!("expected the refusal");
    };
    assert_eq!(refusal, Refusal::new(RefusalCode::Overloaded, "you lag behind; start again from a snapshot"));
    assert_eq!(soon(items.next()).await.unwrap(), None);
}

#[tokio::test]
async fn an_item_abandoned_half_sent_breaks_the_subscription_off() {
    let abandoned = Arc::new(Notify::new());
    let told = Arc::clone(&abandoned);
    let (server, client) = pair(Routes::new().subscription::<Flood, _, _>(EVERYBODY, move |_, (), mut publisher| {
        let told = Arc::clone(&told);
        async move {
            // 3 MiB do not fit the window: while nobody reads, the item is under way.
            let item = text(&"x".repeat(3 << 20));
            tokio::select! {
                biased;
                _ = publisher.publish(&item) => panic!("more than a window was sent"),
                () = tokio::task::yield_now() => {}
            }
            assert!(matches!(publisher.publish(&text("next")).await, Err(PublishError::Torn)));
            drop(publisher);
            told.notify_one();
            Ok(())
        }
    }));
    let mut items = client.fabric.subscribe::<Flood>(&server.target(), &(), SOON).await.unwrap();
    soon(abandoned.notified()).await;
    let outcome = soon(items.next()).await;
    assert!(matches!(outcome, Err(CallError::Broken { .. })), "{outcome:?}");
}
