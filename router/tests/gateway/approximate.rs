//! Static endpoints, and nothing else: no metadata, no node, no tokenizer. What was sent where is all there is to go by.

use http::StatusCode;
use weft_router::{Keyless, Policy};

use crate::cluster::{CHAT, COMPLETIONS, Cluster, chat, endpoint, text};
use crate::engine::Engine;

/// Long enough for some chunks, and another for another number.
fn turn(number: usize) -> String {
    (0..400).map(|word| format!("word {} of {number}. ", word * (number + 1))).collect()
}

async fn bare(engines: &[&Engine], policy: Policy) -> Cluster {
    Cluster::of(engines, |config| {
        config.policy = policy;
        config.models.clear();
        config.keys.keyless = Keyless::Always;
    })
    .await
}

/// Who answers, and how many tokens it was expected to have.
async fn asked(
    cluster: &Cluster,
    engines: &mut [Engine],
    path: &str,
    body: &str,
    session: Option<&str>,
) -> (String, u32) {
    let mut request = cluster.request(path, body);
    if let Some(session) = session {
        request.headers_mut().insert("x-session-id", session.parse().unwrap());
    }
    let answering = cluster.sending(request);
    let asked = futures_util::future::select_all(engines.iter_mut().map(|engine| Box::pin(engine.asked()))).await.0;
    asked.answer_json("{}");
    let answer = answering.await.unwrap();
    let matched = answer.headers()["x-weft-matched-tokens"].to_str().unwrap().parse().unwrap();
    let by = endpoint(&answer);
    text(answer).await;
    (by, matched)
}

async fn engines() -> Vec<Engine> {
    let mut engines = Vec::new();
    for _ in 0..4 {
        engines.push(Engine::start().await);
    }
    engines
}

#[tokio::test]
async fn a_chat_that_grows_stays_where_it_was_sent() {
    for policy in [Policy::Approximate, Policy::Weft, Policy::LongestPrefix] {
        let mut engines = engines().await;
        let cluster = bare(&engines.iter().collect::<Vec<_>>(), policy).await;
        let mut content = turn(0);
        let (first, matched) = asked(&cluster, &mut engines, CHAT, &chat(&content, false), None).await;
        assert_eq!(matched, 0);
        for number in 1..6 {
            content += &turn(number);
            let (by, matched) = asked(&cluster, &mut engines, CHAT, &chat(&content, false), None).await;
            assert!(by == first && matched > 1000, "{policy:?}: {by} {matched}");
        }
        let body = serde_json::json!({"model": "sim-8b", "prompt": turn(77)}).to_string();
        assert_eq!(asked(&cluster, &mut engines, COMPLETIONS, &body, None).await.1, 0, "another prompt");
        let again = asked(&cluster, &mut engines, COMPLETIONS, &body, None).await.1;
        assert!(again > 1000, "{again}");
    }
}

#[tokio::test]
async fn an_endpoint_that_went_out_is_taken_to_be_empty() {
    let mut engines = engines().await;
    let cluster = bare(&engines.iter().collect::<Vec<_>>(), Policy::Approximate).await;
    let body = chat(&turn(0), false);
    let (first, _) = asked(&cluster, &mut engines, CHAT, &body, None).await;
    let number: usize = first[1..].parse().unwrap();
    let answering = cluster.sending(cluster.request(CHAT, &body));
    engines[number].asked().await.hang_up();
    let asked_next =
        futures_util::future::select_all(engines.iter_mut().map(|engine| Box::pin(engine.asked()))).await.0;
    asked_next.answer_json("{}");
    let answer = answering.await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["x-weft-matched-tokens"]), (StatusCode::OK, &"0".parse().unwrap()));
    let second = endpoint(&answer);
    assert_ne!(second, first);
    text(answer).await;
    cluster.metric("weft_router_endpoints{state=\"healthy\"} 4").await;
    for _ in 0..8 {
        let (by, matched) = asked(&cluster, &mut engines, CHAT, &body, None).await;
        assert!(by == second && matched > 1000, "{by} {matched}");
    }
}

#[tokio::test]
async fn a_session_stays_among_equals() {
    let mut engines = engines().await;
    let cluster = bare(&engines.iter().collect::<Vec<_>>(), Policy::Weft).await;
    // Too short for a chunk: nothing but the session's name tells them apart.
    let body = chat("hello", false);
    for session in ["a", "b", "c"] {
        let first = asked(&cluster, &mut engines, CHAT, &body, Some(session)).await;
        for _ in 0..8 {
            assert_eq!(asked(&cluster, &mut engines, CHAT, &body, Some(session)).await, first);
        }
    }
}
