//! What passes through, passes unchanged and at once.

use http::StatusCode;

use crate::cluster::{CHAT, COMPLETIONS, Cluster, chat, chunk, endpoint, soon, text};
use crate::engine::Engine;

#[tokio::test]
async fn bodies_pass_byte_for_byte_both_ways() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let body =
        "{ \"messages\" : [{\"content\":\"h\\u00e9\",\"role\":\"user\"}],\n\t\"unknown\": 1e3, \"model\":\"sim-8b\" }";
    let mut request = cluster.request(&format!("{CHAT}?trace=1"), body);
    request.headers_mut().insert("authorization", "Bearer key".parse().unwrap());
    let answering = tokio::spawn(cluster.client.request(request));

    let asked = engine.asked().await;
    assert_eq!((asked.method.as_str(), asked.uri.path(), asked.uri.query()), ("POST", CHAT, Some("trace=1")));
    assert_eq!(asked.body, body);
    assert_eq!(asked.headers["authorization"], "Bearer key");
    assert_eq!(asked.headers["host"], engine.addr.to_string());
    let id = asked.headers["x-request-id"].clone();
    asked.answer(StatusCode::IM_A_TEAPOT, "application/json", "{ \"odd\":  1 }");

    let answer = answering.await.unwrap().unwrap();
    assert_eq!((answer.status(), endpoint(&answer).as_str()), (StatusCode::IM_A_TEAPOT, "e0"));
    assert_eq!(answer.headers()["x-weft-request-id"], id);
    assert_eq!(answer.headers()["content-length"], "13");
    assert_eq!(text(answer).await, "{ \"odd\":  1 }");
    cluster.metric("weft_router_requests_total{outcome=\"answered\"} 1").await;
}

#[tokio::test]
async fn a_stream_is_not_held_back() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let answering = cluster.posting(CHAT, &chat("hello", true));
    let stream = engine.asked().await.stream("text/event-stream");
    let events = ["data: {\"a\": 1}\n\n", "data: {\"b\"", ": 2}\n\ndata: [DONE]\n\n"];
    stream.send(events[0]).await;
    // The engine sends nothing more before the client has seen the first event.
    let mut answer = answering.await.unwrap();
    assert_eq!(chunk(&mut answer).await, events[0]);
    for event in &events[1..] {
        stream.send(event).await;
        assert_eq!(chunk(&mut answer).await, *event);
    }
    drop(stream);
    assert_eq!(text(answer).await, "");
    cluster.metric("weft_router_ttft_seconds_count 1").await;
}

#[tokio::test]
async fn other_paths_go_to_an_engine_of_the_model() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let cases = [
        ("/v1/embeddings", r#"{"model": "sim-8b", "input": "x"}"#, "application/json"),
        ("/v1/responses", r#"{"model": "sim-8b", "input": "x", "stream": false}"#, "application/json"),
        ("/v1/messages", r#"{"model": "sim-8b", "max_tokens": 1, "messages": []}"#, "application/json"),
        ("/v1/rerank", r#"{"model": "sim-8b", "query": "x", "documents": ["y"]}"#, "application/json"),
        ("/rerank", r#"{"model": "sim-8b", "query": "x", "documents": ["y"]}"#, "application/json"),
        ("/tokenize", r#"{"model": "sim-8b", "prompt": "x"}"#, "application/json"),
        ("/detokenize", r#"{"model": "sim-8b", "tokens": [1]}"#, "application/json"),
        ("/v1/audio/transcriptions", "--form--", "multipart/form-data; boundary=form"),
    ];
    for (path, body, kind) in cases {
        let mut request = cluster.request(path, body);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        let answering = cluster.sending(request);
        let asked = engine.asked().await;
        assert_eq!((asked.uri.path(), &asked.body[..]), (path, body.as_bytes()));
        asked.answer_json("{}");
        assert_eq!(endpoint(&answering.await.unwrap()), "e0");
    }
}

#[tokio::test]
async fn models_are_those_of_all_endpoints() {
    let engine = Engine::start().await;
    let cluster = Cluster::of_roster(&[&engine], |config| {
        let fixed = format!("id = 'fixed'\nurl = '{}'\nmodels = ['other']", engine.url());
        config.endpoints.push(toml::from_str(&fixed).unwrap());
    })
    .await;
    let list: serde_json::Value = serde_json::from_str(&text(cluster.get("/v1/models").await).await).unwrap();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((list["object"].as_str(), names), (Some("list"), vec!["other", "sim-8b", "sim-8b-latest"]));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_in_the_shape_of_openai() {
    let mut engine = Engine::start().await;
    let other = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |config| {
        let fixed = format!("id = 'fixed'\nurl = '{}'\nmodels = ['other']", other.url());
        config.endpoints.push(toml::from_str(&fixed).unwrap());
    })
    .await;
    let cases = [
        (CHAT, "{\"model\": ", 400, "invalid_request", "the body is not as expected"),
        (CHAT, "{\"messages\": []}", 400, "invalid_request", "name a model in the body; known models: other, sim-8b"),
        (CHAT, "{\"model\": \"sim-8b\"}", 400, "invalid_request", "missing field `messages`"),
        (
            CHAT,
            "{\"model\": \"gpt\", \"messages\": []}",
            404,
            "model_not_found",
            "'gpt' is not served here; known models: other, sim-8b",
        ),
        (COMPLETIONS, "{\"model\": \"sim-8b\", \"prompt\": [4096]}", 400, "invalid_request", "expected 0 to 4095"),
        (CHAT, "[]", 400, "invalid_request", "expected a JSON object with a model and a prompt"),
        ("/v1/../metrics", "{}", 404, "unknown_url", "there is no /v1/../metrics here"),
        ("/v1/%2E%2e/metrics", "{}", 404, "unknown_url", "there is no "),
        ("/v1/models", "{}", 405, "method_not_allowed", "/v1/models takes GET, HEAD only"),
        ("/v2/nothing", "{}", 404, "unknown_url", "there is no /v2/nothing here"),
    ];
    for (path, body, status, code, message) in cases {
        let answer = cluster.post(path, body).await;
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        let error: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(message), "{error}");
    }
    let answer = cluster.get(CHAT).await;
    assert_eq!(
        (answer.status(), answer.headers()["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
    let mut packed = cluster.request(CHAT, "\u{1f}\u{8b}");
    packed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answer = soon(cluster.client.request(packed)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(text(answer).await.contains("encoded as 'gzip': expected plain JSON"));
    let long = chat("hello", false).replace("sim-8b", &"n".repeat(10_000));
    assert!(text(cluster.post(CHAT, &long).await).await.len() < 400, "an answer does not repeat all it was sent");
    assert!(engine.is_idle(), "none of it reached an engine");
}

#[tokio::test]
async fn health_and_state_tell_of_the_endpoints() {
    let engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    assert_eq!(cluster.get("/health").await.status(), StatusCode::OK);
    assert_eq!(cluster.admin("/ready").await, "ready\n");
    let state: serde_json::Value = serde_json::from_str(&cluster.admin("/state").await).unwrap();
    assert_eq!(state["endpoints"][0]["name"], "e0");
    assert_eq!(state["endpoints"][0]["healthy"], true);
    let nobody = Cluster::of(&[], |_| {}).await;
    assert_eq!(nobody.get("/health").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}
