//! Every bound has an answer.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_types::ByteSize;

use crate::cluster::{CHAT, Cluster, chat, soon, text};
use crate::engine::Engine;

/// What the router says to these bytes, until it closes the connection.
async fn say(cluster: &Cluster, bytes: &str) -> String {
    let mut socket = TcpStream::connect(cluster.router.http_addr()).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.body = ByteSize::from_bytes(1000)).await;
    let answer = cluster.post(CHAT, &chat(&"x".repeat(1000), false)).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text(answer).await.contains("larger than 1000 bytes"));
    let chunks = format!("3e8\r\n{}\r\n1\r\ny\r\n0\r\n\r\n", "x".repeat(1000));
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: r\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    assert!(say(&cluster, &(head + &chunks)).await.starts_with("HTTP/1.1 413 "));
    assert!(engine.is_idle());
}

#[tokio::test]
async fn a_client_that_sends_before_it_reads_still_learns_why() {
    let engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.body = ByteSize::from_mib(4)).await;
    // More than the sockets between would hold.
    let body = "x".repeat(12 << 20);
    let heads = [
        format!("content-length: {}\r\n\r\n", body.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()),
    ];
    for head in heads {
        let request = format!("POST {CHAT} HTTP/1.1\r\nhost: r\r\nconnection: close\r\n{head}{body}\r\n0\r\n\r\n");
        assert!(say(&cluster, &request).await.starts_with("HTTP/1.1 413 "));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.body_within = Duration::from_millis(50)).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: r\r\nconnection: close\r\ncontent-length: 10\r\n\r\n{{");
    assert!(say(&cluster, &head).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.head_within = Duration::from_millis(50)).await;
    assert_eq!(say(&cluster, "POST /v1/chat/comple").await, "");
}

#[tokio::test]
async fn a_request_over_the_limit_is_503_and_told_when_to_come_again() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.requests = 1).await;
    let answering = cluster.posting(CHAT, &chat("hello", false));
    let asked = engine.asked().await;
    let refused = cluster.post(CHAT, &chat("hello", false)).await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert!(text(refused).await.contains("1 requests are in flight"));
    asked.answer_json("{}");
    assert_eq!(text(answering.await.unwrap()).await, "{}");
    // The place is free when the answer is through.
    cluster.metric("weft_router_in_flight_requests 0").await;
    let answering = cluster.posting(CHAT, &chat("hello", false));
    engine.asked().await.answer_json("{}");
    assert_eq!(answering.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_engine_that_falls_silent_in_the_middle_ends_the_stream() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.limits.endpoint_stall = Duration::from_millis(50)).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: {}\n\n").await;
    assert!(text(answering.await.unwrap()).await.contains("nothing came from it for 50ms"));
    stream.gone().await;
}

#[tokio::test]
async fn drain_lets_requests_end_and_takes_no_more() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: 1\n\n").await;
    let answer = answering.await.unwrap();
    let addr = cluster.router.http_addr();
    let draining = tokio::spawn(cluster.router.drain(Duration::from_secs(60)));
    soon(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream.send("data: 2\n\n").await;
    drop(stream);
    assert_eq!(text(answer).await, "data: 1\n\ndata: 2\n\n");
    soon(draining).await.unwrap();
}

#[tokio::test]
async fn drain_cuts_off_what_does_not_end() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: 1\n\n").await;
    let answer = answering.await.unwrap();
    soon(cluster.router.drain(Duration::from_millis(20))).await;
    stream.gone().await;
    drop(answer);
}
