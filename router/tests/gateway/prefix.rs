//! Requests go where their prefix is.

use weft_router::Policy;
use weft_tokens::{ModelFiles, StableTokens};

use crate::cluster::{CHAT, COMPLETIONS, Cluster, chat, endpoint, text, tokenizer};
use crate::engine::Engine;

/// A prompt of eight blocks and some, and its tokens as a chat of one message.
pub(crate) fn prompt() -> (String, Vec<u32>) {
    let files = ModelFiles::load(&tokenizer()).unwrap();
    let stable = StableTokens::of(&files);
    let content = files.decode(&stable.ids()[100..640]).unwrap();
    let tokens = files.chat_prompt(chat(&content, true).as_bytes()).unwrap();
    (content, tokens)
}

/// Who answers, and how many tokens were expected to be cached.
pub(crate) async fn asked(cluster: &Cluster, engines: &mut [&mut Engine], path: &str, body: &str) -> (String, String) {
    let answering = cluster.posting(path, body);
    let asked = futures_util::future::select_all(engines.iter_mut().map(|engine| Box::pin(engine.asked()))).await.0;
    asked.answer_json("{}");
    let answer = answering.await.unwrap();
    let matched = answer.headers()["x-weft-matched-tokens"].to_str().unwrap().to_owned();
    let by = endpoint(&answer);
    text(answer).await;
    (by, matched)
}

pub(crate) fn is(endpoint: &str, matched: u32) -> (String, String) {
    (endpoint.to_owned(), matched.to_string())
}

#[tokio::test]
async fn the_endpoint_that_holds_the_prefix_is_asked() {
    let (mut e0, mut e1, mut e2) = (Engine::start().await, Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1, &e2], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e1:0/device", &tokens, 4);
    let mut engines = [&mut e0, &mut e1, &mut e2];
    for _ in 0..6 {
        assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 256));
    }
    // The same prompt as token ids.
    let body = serde_json::json!({"model": "sim-8b", "prompt": tokens}).to_string();
    assert_eq!(asked(&cluster, &mut engines, COMPLETIONS, &body).await, is("e1", 256));
    // Another name of the same model has the same blocks.
    let body = serde_json::json!({"model": "sim-8b-latest", "prompt": tokens}).to_string();
    let (_, matched) = asked(&cluster, &mut engines, COMPLETIONS, &body).await;
    assert_eq!(matched, "0", "no tokenizer is configured under this name");
    cluster.metric("weft_router_matched_tokens_total{source=\"device\"} 1792").await;
}

#[tokio::test]
async fn a_longer_prefix_on_the_node_beats_a_short_one_on_the_device() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 1);
    cluster.directory.store("n1/host", &tokens, 8);
    let mut engines = [&mut e0, &mut e1];
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 512));
    cluster.metric("weft_router_matched_tokens_total{source=\"local\"} 512").await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_answer_now_is_not_asked_again_though_it_holds_the_prefix() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 8);
    let answering = cluster.posting(CHAT, &chat(&content, false));
    e0.asked().await.answer(http::StatusCode::SERVICE_UNAVAILABLE, "text/plain", "busy");
    e1.asked().await.answer_json("{}");
    assert_eq!(endpoint(&answering.await.unwrap()), "e1");
}

#[tokio::test]
async fn another_prompt_of_the_same_length_goes_anywhere() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 8);
    let other: String = format!(" x{content}");
    let mut engines = [&mut e0, &mut e1];
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&other, false)).await.1, "0");
}

#[tokio::test]
async fn the_baselines_do_not_look_at_prefixes() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |config| config.policy = Policy::RoundRobin).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e1:0/device", &tokens, 8);
    let mut engines = [&mut e0, &mut e1];
    for expected in [is("e0", 0), is("e1", 512), is("e0", 0), is("e1", 512)] {
        assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, expected);
    }
}

#[tokio::test]
async fn endpoints_come_and_go_with_the_roster() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0], |_| {}).await;
    cluster.directory.put("e9", "n9", &e1.url());
    cluster.directory.change(|roster| roster.endpoints.retain(|id, _| id.to_string() == "e9"));
    cluster.metric("weft_router_endpoints{state=\"healthy\"} 1").await;
    let state: serde_json::Value = serde_json::from_str(&cluster.admin("/state").await).unwrap();
    assert_eq!(state["endpoints"][0]["name"], "e9", "{state}");
    let mut engines = [&mut e0, &mut e1];
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat("hello", false)).await.0, "e9");
}

#[tokio::test]
async fn without_a_tokenizer_a_model_is_routed_by_load() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |config| config.models.clear()).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 8);
    let mut engines = [&mut e0, &mut e1];
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await.1, "0");
}

#[tokio::test]
async fn a_tokenizer_that_is_not_the_engines_is_not_trusted() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 8);
    cluster.directory.change(|roster| {
        for endpoint in roster.endpoints.values_mut() {
            endpoint.contracts[0].tokenizer = "another".to_owned();
            endpoint.incarnation = endpoint.incarnation.next();
        }
    });
    // Seen in the state when it is in force.
    let mut engines = [&mut e0, &mut e1];
    crate::cluster::soon(async { while asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await.1 != "0" {} })
        .await;
}
