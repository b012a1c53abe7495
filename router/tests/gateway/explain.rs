//! A request can be asked about: where it could have gone, what was predicted, what came of it, and what was missed.

use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{CHAT, Cluster, chat, soon, text};
use crate::engine::Engine;
use crate::prefix::prompt;

/// Sends a chat, has the engine answer, and says under which id it is known.
async fn id(cluster: &Cluster, engine: &mut Engine, content: &str, answer: &str) -> String {
    let answering = cluster.posting(CHAT, &chat(content, false));
    engine.asked().await.answer_json(answer);
    let response = answering.await.unwrap();
    let id = response.headers()["x-weft-request-id"].to_str().unwrap().to_owned();
    text(response).await;
    id
}

/// What is known, once the request has ended.
async fn explained(cluster: &Cluster, id: &str) -> Value {
    soon(async {
        loop {
            let explained: Value = serde_json::from_str(&cluster.admin(&format!("/explain/{id}")).await).unwrap();
            if !explained["happened"]["outcome"].is_null() {
                return explained;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn prediction_and_outcome_stand_side_by_side() {
    let (mut e0, e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 4);
    let count = tokens.len();
    let usage = json!({"usage": {"prompt_tokens": count, "prompt_tokens_details": {"cached_tokens": 192}}});
    let id = id(&cluster, &mut e0, &content, &usage.to_string()).await;
    let explained = explained(&cluster, &id).await;
    assert_eq!(explained["request"], id);
    assert_eq!(explained["prompt"], json!({"tokens": count, "counted": true}));
    assert_eq!(explained["attempts"].as_array().unwrap().len(), 1);
    let attempt = &explained["attempts"][0];
    assert_eq!((&attempt["picked"]["endpoint"], &attempt["others"][0]["endpoint"]), (&json!("e0"), &json!("e1")));
    assert_eq!(attempt["picked"]["overlap"]["device_tokens"], 256);
    assert_eq!(explained["predicted"]["hit_tokens"], 256);
    assert_eq!(explained["happened"]["hit_tokens"], 192);
    assert_eq!(explained["happened"]["outcome"], "answered");
    assert_eq!(explained["missed"][0]["reason"], "never-stored", "{explained}");
    cluster.metric("weft_router_hit_error_tokens_count 1").await;
    cluster.metric("weft_router_hit_error_tokens_sum 64").await;
    cluster.metric("weft_router_token_mismatches_total 0").await;
    let some: String = content.chars().take(12).collect();
    assert!(!explained.to_string().contains(&some), "nothing of the prompt is kept");
}

#[tokio::test]
async fn what_was_loaded_is_what_the_engine_says_beyond_its_device_and_no_more_than_the_tiers_had() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of_roster(&[&engine], |_| {}).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 2);
    cluster.directory.store("n0/host", &tokens, 4);
    for (cached, loaded) in [(64, 0), (192, 64), (100_000, 64 + 128)] {
        let usage =
            json!({"usage": {"prompt_tokens": tokens.len(), "prompt_tokens_details": {"cached_tokens": cached}}});
        let id = id(&cluster, &mut engine, &content, &usage.to_string()).await;
        explained(&cluster, &id).await;
        cluster.metric(&format!("weft_router_tenant_loaded_tokens_total{{tenant=\"(none)\"}} {loaded}")).await;
    }
    let state: Value = serde_json::from_str(&cluster.admin("/console/state").await).unwrap();
    assert_eq!(state["tenants"][0]["loaded_tokens"], 192);
    assert!(state["tenants"][0]["saved_seconds"].as_f64().unwrap() > 0.0, "{state}");
    assert_eq!(state["recent"]["loaded_tokens"], 192);
}

#[tokio::test]
async fn a_turn_that_differs_is_told_from_one_that_grows() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of_roster(&[&engine], |_| {}).await;
    let (content, tokens) = prompt();
    let first = id(&cluster, &mut engine, &content, r#"{"usage": {"prompt_tokens": 1}}"#).await;
    explained(&cluster, &first).await;
    cluster.metric("weft_router_token_mismatches_total 1").await;
    let half: String = content.chars().take(content.chars().count() / 2).collect();
    let second =
        id(&cluster, &mut engine, &format!("{half}, and now for something else, at some length. {half}"), "{}").await;
    let missed = &explained(&cluster, &second).await["missed"][0];
    let shared = missed["tokens"].as_u64().unwrap();
    assert!(shared >= 128 && shared < tokens.len() as u64, "{missed}");
    // What was shared was asked for just now, and is listed nowhere.
    assert_eq!((&missed["reason"], &missed["endpoint"]), (&json!("not-listed-yet"), &json!("e0")));
    // Had it been listed, the rest would have been seen to be new.
    cluster.directory.store("e0:0/device", &tokens, usize::try_from(shared / 64).unwrap());
    let third =
        id(&cluster, &mut engine, &format!("{half}, or something else still, at some length. {half}"), "{}").await;
    let missed = &explained(&cluster, &third).await["missed"][0];
    assert_eq!(missed["reason"], "differs", "{missed}");
}

#[tokio::test]
async fn both_attempts_are_kept_and_only_the_last_requests() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let cluster = Cluster::of_roster(&[&e0, &e1], |config| config.explained_requests = 1).await;
    let (content, tokens) = prompt();
    cluster.directory.store("e0:0/device", &tokens, 8);
    let answering = cluster.posting(CHAT, &chat(&content, false));
    e0.asked().await.answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "busy");
    e1.asked().await.answer_json("{}");
    let response = answering.await.unwrap();
    let id_of_two = response.headers()["x-weft-request-id"].to_str().unwrap().to_owned();
    text(response).await;
    let explained = explained(&cluster, &id_of_two).await;
    let attempts = explained["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["failed"], "it answered 503 Service Unavailable");
    assert_eq!((&attempts[1]["picked"]["endpoint"], &attempts[1]["failed"]), (&json!("e1"), &Value::Null));
    id(&cluster, &mut e0, &content, "{}").await;
    assert!(cluster.admin(&format!("/explain/{id_of_two}")).await.starts_with("nothing is known of it"));
}
