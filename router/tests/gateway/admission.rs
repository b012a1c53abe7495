//! More want to than may.

use std::time::Duration;

use http::StatusCode;
use weft_router::Priority;

use crate::cluster::{CHAT, Cluster, chat, soon, text};
use crate::engine::Engine;

const WAITING: &str = "weft_router_admission_waiting_requests";

#[tokio::test]
async fn who_may_not_go_yet_waits_and_goes_in_turn() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| {
        config.admission.passing = 1;
        config.admission.tenant.priority_max = Priority::High;
    })
    .await;
    let first = cluster.posting(CHAT, &chat("first", true));
    let stream = engine.asked().await.stream("text/event-stream");
    let second = cluster.posting(CHAT, &chat("second", false));
    cluster.metric(&format!("{WAITING} 1")).await;
    let mut request = cluster.request(CHAT, &chat("third", false));
    request.headers_mut().insert("x-weft-priority", "high".parse().unwrap());
    let third = cluster.sending(request);
    cluster.metric(&format!("{WAITING} 2")).await;
    assert!(engine.is_idle(), "one at a time");
    // The place is the next one's when the answer is through, not when it begins.
    stream.send("data: 1\n\n").await;
    drop(stream);
    assert_eq!(text(soon(first).await.unwrap()).await, "data: 1\n\n");
    for (answering, expected) in [(third, "third"), (second, "second")] {
        let asked = engine.asked().await;
        assert!(String::from_utf8_lossy(&asked.body).contains(expected), "the higher priority first");
        asked.answer_json("{}");
        assert_eq!(soon(answering).await.unwrap().status(), StatusCode::OK);
    }
    cluster.metric(&format!("{WAITING} 0")).await;
}

#[tokio::test]
async fn who_leaves_while_waiting_gives_the_place_up() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| config.admission.passing = 1).await;
    let first = cluster.posting(CHAT, &chat("first", false));
    let asked = engine.asked().await;
    let leaving = cluster.posting(CHAT, &chat("leaving", false));
    cluster.metric(&format!("{WAITING} 1")).await;
    leaving.abort();
    cluster.metric(&format!("{WAITING} 0")).await;
    let third = cluster.posting(CHAT, &chat("third", false));
    cluster.metric(&format!("{WAITING} 1")).await;
    asked.answer_json("{}");
    soon(first).await.unwrap();
    let asked = engine.asked().await;
    assert!(String::from_utf8_lossy(&asked.body).contains("third"));
    asked.answer_json("{}");
    assert_eq!(soon(third).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_over_a_bound_is_429_and_told_when_to_come_again() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| {
        config.admission.passing = 1;
        config.admission.waiting = 1;
        config.admission.wait_within = Duration::from_secs(60);
    })
    .await;
    let first = cluster.posting(CHAT, &chat("first", false));
    let asked = engine.asked().await;
    let mut request = cluster.request(CHAT, &chat("in a hurry", false));
    request.headers_mut().insert("x-weft-deadline-ms", "20".parse().unwrap());
    let late = soon(cluster.sending(request)).await.unwrap();
    assert_eq!((late.status(), &late.headers()["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap()));
    assert!(text(late).await.contains("would take this request too late"));
    let second = cluster.posting(CHAT, &chat("second", false));
    cluster.metric(&format!("{WAITING} 1")).await;
    let full = cluster.post(CHAT, &chat("third", false)).await;
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(text(full).await.contains("as many requests wait"));
    asked.answer_json("{}");
    soon(first).await.unwrap();
    engine.asked().await.answer_json("{}");
    assert_eq!(soon(second).await.unwrap().status(), StatusCode::OK);
    for why in ["deadline", "full"] {
        cluster.metric(&format!("weft_router_admission_refused_total{{why=\"{why}\"}} 1")).await;
    }
}

#[tokio::test]
async fn a_tenant_that_has_had_its_tokens_is_429() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| {
        config.admission.tenant.tokens_per_second = 0.01;
        config.admission.tenant.burst_tokens = 10.0;
    })
    .await;
    let first = cluster.posting(CHAT, &chat("hello", false));
    engine.asked().await.answer_json("{}");
    assert_eq!(soon(first).await.unwrap().status(), StatusCode::OK);
    let refused = cluster.post(CHAT, &chat("hello", false)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(after > 600, "{after} s for its debt, at a token in 100 s");
    assert!(text(refused).await.contains("used up its tokens"));
}

#[tokio::test]
async fn headers_that_say_nothing_known_are_400() {
    let engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    for (name, value) in [("x-weft-priority", "urgent"), ("x-weft-deadline-ms", "2s")] {
        let mut request = cluster.request(CHAT, &chat("hello", false));
        request.headers_mut().insert(name, value.parse().unwrap());
        let refused = soon(cluster.sending(request)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(text(refused).await.contains(&format!("the header {name} is")));
    }
}
