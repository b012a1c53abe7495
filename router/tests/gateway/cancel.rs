//! Whoever stops listening stops the work.

use bytes::Bytes;

use crate::cluster::{CHAT, Cluster, chat, chunk};
use crate::engine::Engine;

#[tokio::test]
async fn a_client_that_leaves_in_prefill_takes_its_request_along() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    for stream in [true, false] {
        let answering = cluster.posting(CHAT, &chat("hello", stream));
        let asked = engine.asked().await;
        answering.abort();
        asked.gone().await;
    }
    cluster.metric("weft_router_requests_total{outcome=\"cancelled\"} 2").await;
    cluster.metric("weft_router_in_flight_requests 0").await;
}

#[tokio::test]
async fn a_client_that_leaves_in_decode_takes_its_request_along() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: {}\n\n").await;
    let mut answer = answering.await.unwrap();
    chunk(&mut answer).await;
    drop(answer);
    // The engine sends nothing: it must be told, not find out.
    stream.gone().await;
    cluster.metric("weft_router_requests_total{outcome=\"cancelled\"} 1").await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut engine = Engine::start().await;
    let cluster =
        Cluster::of(&[&engine], |config| config.limits.client_stall = std::time::Duration::from_millis(50)).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: {}\n\n").await;
    let answer = answering.await.unwrap();
    // Fills every buffer between the engine and the client, and ends when the router has closed its connection.
    stream.flood(&Bytes::from(vec![b'x'; 1 << 20])).await;
    stream.gone().await;
    drop(answer);
}
