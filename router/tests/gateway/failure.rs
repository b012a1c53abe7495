//! Engines that refuse, hang up, and die.

use std::sync::atomic::Ordering;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{CHAT, Cluster, chat, chunk, endpoint, soon, text};
use crate::engine::Engine;

/// An address where nothing listens.
async fn nobody() -> Engine {
    let engine = Engine::start().await;
    let addr = engine.addr;
    drop(engine);
    // The listener is closed by the task that owns it.
    soon(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut gone = Engine::start().await;
    gone.addr = addr;
    gone
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_and_the_endpoint_is_out() {
    let (dead, mut alive) = (nobody().await, Engine::start().await);
    let cluster = Cluster::of(&[&dead, &alive], |config| {
        config.policy = weft_router::Policy::RoundRobin;
        config.health.every = std::time::Duration::from_secs(3600);
    })
    .await;
    for _ in 0..3 {
        let answering = cluster.posting(CHAT, &chat("hello", false));
        alive.asked().await.answer_json("{}");
        let answer = answering.await.unwrap();
        assert_eq!((answer.status(), endpoint(&answer).as_str()), (StatusCode::OK, "e1"));
    }
    // Only the first request met it: after that it was not asked.
    cluster.metric("weft_router_retries_total 1").await;
    cluster.metric("weft_router_endpoints{state=\"out\"} 1").await;
}

#[tokio::test]
async fn an_endpoint_that_is_well_again_is_back() {
    let dead = nobody().await;
    let cluster = Cluster::of(&[&dead], |_| {}).await;
    assert_eq!(cluster.post(CHAT, &chat("hello", false)).await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(cluster.post(CHAT, &chat("hello", false)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut back = Engine::start_at(dead.addr).await;
    cluster.metric("weft_router_endpoints{state=\"healthy\"} 1").await;
    let answering = cluster.posting(CHAT, &chat("hello", false));
    back.asked().await.answer_json("{}");
    assert_eq!(answering.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_endpoint_that_fails_its_probes_gets_no_requests() {
    let (sick, mut well) = (Engine::start().await, Engine::start().await);
    sick.healthy.store(false, Ordering::SeqCst);
    let cluster = Cluster::of(&[&sick, &well], |config| config.policy = weft_router::Policy::RoundRobin).await;
    cluster.metric("weft_router_endpoints{state=\"out\"} 1").await;
    for _ in 0..4 {
        let answering = cluster.posting(CHAT, &chat("hello", false));
        well.asked().await.answer_json("{}");
        assert_eq!(endpoint(&answering.await.unwrap()), "e1");
    }
}

#[tokio::test]
async fn an_engine_that_hangs_up_is_replaced() {
    let (mut first, mut second) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of(&[&first, &second], |config| config.policy = weft_router::Policy::RoundRobin).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    first.asked().await.hang_up();
    second.asked().await.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e1");
}

/// vLLM sends the head of a stream at once, and then computes: a death in prefill comes after the head.
#[tokio::test]
async fn an_engine_that_dies_between_head_and_first_byte_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (first, mut second) = (listener.local_addr().unwrap(), Engine::start().await);
    let cluster = Cluster::of(&[&second], |config| {
        let dying = format!("id = 'dying'\nurl = 'http://{first}'\nmodels = ['sim-8b']");
        config.endpoints.push(toml::from_str(&dying).unwrap());
        config.policy = weft_router::Policy::RoundRobin;
        config.health.every = std::time::Duration::from_secs(3600);
    })
    .await;
    let probe = soon(listener.accept()).await.unwrap().0;
    // In order of name: `dying` is before `e0`.
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let mut socket = soon(listener.accept()).await.unwrap().0;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    drop((socket, probe));
    let stream = second.asked().await.stream("text/event-stream");
    stream.send("data: {}\n\n").await;
    let answer = answering.await.unwrap();
    assert_eq!((answer.status(), endpoint(&answer).as_str()), (StatusCode::OK, "e0"));
    drop(stream);
    assert_eq!(text(answer).await, "data: {}\n\n");
}

/// Frozen, with its connections open: no request to it ends by itself for minutes.
#[tokio::test]
async fn an_engine_that_answers_no_probe_loses_the_requests_that_wait_for_it() {
    let (mut frozen, mut well) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of(&[&frozen, &well], |config| {
        config.policy = weft_router::Policy::RoundRobin;
        config.health.within = std::time::Duration::from_millis(50);
    })
    .await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let waiting = frozen.asked().await;
    frozen.freeze();
    well.asked().await.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e1");
    waiting.gone().await;
}

#[tokio::test]
async fn an_engine_that_says_it_drains_keeps_the_requests_that_wait_for_it() {
    let (mut draining, well) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of(&[&draining, &well], |config| config.policy = weft_router::Policy::RoundRobin).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let waiting = draining.asked().await;
    draining.healthy.store(false, Ordering::SeqCst);
    cluster.metric("weft_router_endpoints{state=\"out\"} 1").await;
    waiting.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e0");
}

#[tokio::test]
async fn two_endpoints_are_tried_and_no_more() {
    let (mut first, mut second, mut third) = (Engine::start().await, Engine::start().await, Engine::start().await);
    let cluster =
        Cluster::of(&[&first, &second, &third], |config| config.policy = weft_router::Policy::RoundRobin).await;
    let answering = cluster.posting(CHAT, &chat("hello", false));
    first.asked().await.hang_up();
    second.asked().await.hang_up();
    let answer = answering.await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(text(answer).await.contains("endpoint e1 failed before it answered"));
    assert!(third.is_idle());
    cluster.metric("weft_router_requests_total{outcome=\"failed\"} 1").await;
}

#[tokio::test]
async fn an_engine_that_cannot_answer_now_is_passed_on_only_if_nobody_can() {
    let (mut first, mut second) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of(&[&first, &second], |config| config.policy = weft_router::Policy::RoundRobin).await;
    let busy = |asked: crate::engine::Asked| asked.answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "busy");
    let answering = cluster.posting(CHAT, &chat("hello", false));
    busy(first.asked().await);
    second.asked().await.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e1");

    let answering = cluster.posting(CHAT, &chat("hello", false));
    busy(first.asked().await);
    busy(second.asked().await);
    let answer = answering.await.unwrap();
    assert_eq!((answer.status(), text(answer).await.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
}

#[tokio::test]
async fn an_engine_that_dies_in_the_middle_ends_the_stream_with_an_error() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    stream.send("data: {\"half\"").await;
    let mut answer = answering.await.unwrap();
    assert_eq!(chunk(&mut answer).await, "data: {\"half\"");
    stream.die().await;
    let rest = text(answer).await;
    let event = rest.strip_prefix("\n\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    let error: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(error["error"]["code"], "endpoint_failed");
    assert!(error["error"]["message"].as_str().unwrap().contains("endpoint e0 failed in the middle"), "{error}");
    cluster.metric("weft_router_requests_total{outcome=\"broken\"} 1").await;
}

#[tokio::test]
async fn an_answer_in_one_piece_that_breaks_is_not_passed_off_as_whole() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", false));
    let stream = engine.asked().await.stream("application/json");
    stream.send("{\"half\": ").await;
    let answer = answering.await.unwrap();
    stream.die().await;
    soon(answer.collect()).await.unwrap_err();
}
