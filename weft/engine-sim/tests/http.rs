//! The engine over real HTTP, without a node: what a client and a router see.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use weft_engine_sim::{Config, EngineSim, Pace};
use weft_service::telemetry::Telemetry;

const BLOCK: usize = 64;
/// Fast enough that no test waits for the simulated accelerator.
const FAST: f64 = 1000.0;

struct Engine {
    addr: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    sim: EngineSim,
}

impl Engine {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/sim-8b");
        let mut config = Config::new("e1".parse().unwrap(), folder);
        config.addr = "127.0.0.1:0".parse().unwrap();
        config.pace = Pace { speed: FAST, ..Pace::default() };
        change(&mut config);
        let sim = EngineSim::bind(config, &Telemetry::for_tests()).await.unwrap();
        Self { addr: sim.addr(), client: Client::builder(TokioExecutor::new()).build_http(), sim }
    }

    async fn send(&self, path: &str, body: &Value) -> Response<Incoming> {
        let request = Request::post(format!("http://{}{path}", self.addr)).header("content-type", "application/json");
        self.client.request(request.body(Full::from(body.to_string())).unwrap()).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.send(path, body).await;
        (response.status(), serde_json::from_slice(&text(response).await).unwrap())
    }

    /// An answer to a completions request; panics on any other status than 200.
    async fn complete(&self, prompt: &[u32], max_tokens: usize) -> Value {
        let (status, body) = self.post("/v1/completions", &completion(prompt, max_tokens)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Sends a completions request now, whoever waits for its answer.
    fn spawn(&self, body: &Value) -> JoinHandle<Response<Incoming>> {
        let request = Request::post(format!("http://{}/v1/completions", self.addr)).body(Full::from(body.to_string()));
        let answer = self.client.request(request.unwrap());
        tokio::spawn(async { answer.await.unwrap() })
    }

    /// Resolves when a gauge has a value.
    async fn gauge(&self, name: &str, value: u32) {
        let line = format!("vllm:{name}{{model_name=\"sim-8b\"}} {value}\n");
        while !self.get("/metrics").await.contains(&line) {
            tokio::task::yield_now().await;
        }
    }

    async fn get(&self, path: &str) -> String {
        let uri = format!("http://{}{path}", self.addr).parse().unwrap();
        String::from_utf8(text(self.client.get(uri).await.unwrap()).await.to_vec()).unwrap()
    }
}

async fn text(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn completion(prompt: &[u32], max_tokens: usize) -> Value {
    json!({"model": "sim-8b", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true})
}

/// Tokens of `blocks` blocks that no other `family` shares, and a few more that fill no block.
fn prompt(family: u32, blocks: usize) -> Vec<u32> {
    (0..blocks * BLOCK + 3).map(|position| 1000 + family * 31 + u32::try_from(position % 29).unwrap()).collect()
}

fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    let mut events: Vec<_> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(events.pop(), Some("data: [DONE]"));
    events.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn a_shared_prefix_is_computed_once() {
    let engine = Engine::start(|_| {}).await;
    let first = engine.complete(&prompt(1, 3), 4).await;
    assert_eq!(first["usage"]["weft"]["computed"], 3 * BLOCK + 3);
    assert_eq!(first["usage"]["completion_tokens"], 4);

    let mut longer = prompt(1, 3)[..3 * BLOCK].to_vec();
    longer.extend(prompt(2, 1));
    let second = engine.complete(&longer, 4).await;
    assert_eq!(second["usage"]["weft"]["device"], 3 * BLOCK);
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 3 * BLOCK);
    assert_eq!(second["usage"]["weft"]["computed"], BLOCK + 3);
    let metrics = engine.get("/metrics").await;
    assert!(metrics.contains("vllm:prefix_cache_hits_total{model_name=\"sim-8b\"} 192"), "{metrics}");
    assert!(metrics.contains("vllm:num_requests_running{model_name=\"sim-8b\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_prompt_cached_in_full_computes_its_last_block() {
    let engine = Engine::start(|_| {}).await;
    let whole = &prompt(1, 3)[..3 * BLOCK];
    engine.complete(whole, 1).await;
    let again = engine.complete(whole, 1).await;
    assert_eq!(again["usage"]["weft"]["device"], 2 * BLOCK);
    assert_eq!(again["usage"]["weft"]["computed"], BLOCK);
}

#[tokio::test]
async fn the_oldest_prefix_is_evicted_from_its_end() {
    let engine = Engine::start(|config| config.device_tokens = 8 * BLOCK as u64).await;
    for family in [1, 2] {
        engine.complete(&prompt(family, 3), 1).await;
    }
    // Four slots for this one: two free ones, and the last two blocks of the oldest prefix.
    engine.complete(&prompt(3, 3), 1).await;
    let oldest = engine.complete(&prompt(1, 3), 1).await;
    assert_eq!(oldest["usage"]["weft"]["device"], BLOCK);
}

#[tokio::test]
async fn another_salt_is_another_cache() {
    let engine = Engine::start(|_| {}).await;
    let mut salted = completion(&prompt(1, 3), 1);
    salted["cache_salt"] = json!("tenant-a");
    for expected in [0, 3 * BLOCK] {
        let (_, body) = engine.post("/v1/completions", &salted).await;
        assert_eq!(body["usage"]["weft"]["device"], expected);
    }
    assert_eq!(engine.complete(&prompt(1, 3), 1).await["usage"]["weft"]["device"], 0);
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let engine = Engine::start(|config| config.event_tokens = 3).await;
    let mut request = completion(&prompt(1, 2), 8);
    let whole = engine.complete(&prompt(1, 2), 8).await;
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let response = engine.send("/v1/completions", &request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let mut events = events(&text(response).await);
    let usage = events.pop().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 8);
    assert_eq!(usage["usage"]["weft"]["device"], 2 * BLOCK);
    assert_eq!(events.len(), 4, "the first token alone, then by three");
    let streamed: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(streamed, whole["choices"][0]["text"].as_str().unwrap());
    assert_eq!(events[3]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[2]["choices"][0]["finish_reason"], Value::Null);
}

#[tokio::test]
async fn a_chat_that_sends_the_answer_back_hits_it() {
    let engine = Engine::start(|_| {}).await;
    let mut messages = vec![json!({"role": "user", "content": "tell me about the sea"})];
    let chat = |messages: &[Value]| json!({"model": "sim-8b", "messages": messages});
    let (status, first) = engine.post("/v1/chat/completions", &chat(&messages)).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let answer = &first["choices"][0]["message"];
    assert_eq!((&answer["role"], &first["choices"][0]["finish_reason"]), (&json!("assistant"), &json!("stop")));
    messages.push(answer.clone());
    messages.push(json!({"role": "user", "content": "go on"}));
    let (_, second) = engine.post("/v1/chat/completions", &chat(&messages)).await;
    let tokens = |field: &str| usize::try_from(first["usage"][field].as_u64().unwrap()).unwrap();
    let computed = tokens("prompt_tokens") + tokens("completion_tokens") - 1;
    assert_eq!(second["usage"]["weft"]["device"], computed / BLOCK * BLOCK);
}

#[tokio::test]
async fn a_client_that_goes_away_gives_back_what_it_held() {
    let engine = Engine::start(|config| {
        config.device_tokens = 8 * BLOCK as u64;
        config.pace = Pace { decode_step: Duration::from_secs(3600), ..Pace::default() };
    })
    .await;
    let mut endless = completion(&prompt(1, 3), 4 * BLOCK);
    endless["stream"] = json!(true);
    let mut running = engine.send("/v1/completions", &endless).await;
    let first = running.body_mut().frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"data: "));
    engine.gauge("kv_cache_usage_perc", 1).await;

    let waits = engine.spawn(&completion(&prompt(2, 3), 1));
    engine.gauge("num_requests_waiting", 1).await;
    drop(running);
    assert_eq!(waits.await.unwrap().status(), StatusCode::OK);
    engine.gauge("kv_cache_usage_perc", 0).await;
    let metrics = engine.get("/metrics").await;
    assert!(metrics.contains("finished_reason=\"abort\",model_name=\"sim-8b\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_reason() {
    let engine = Engine::start(|config| config.device_tokens = 4 * BLOCK as u64).await;
    let cases = [
        (json!({"model": "gpt", "prompt": [1]}), StatusCode::NOT_FOUND, "this engine serves sim-8b"),
        (json!({"model": "sim-8b"}), StatusCode::BAD_REQUEST, "prompt"),
        (json!([]), StatusCode::BAD_REQUEST, "expected a JSON object with a model and a prompt"),
        (json!("x".repeat(17 << 20)), StatusCode::PAYLOAD_TOO_LARGE, "length limit exceeded"),
        (json!({"model": "sim-8b", "prompt": []}), StatusCode::BAD_REQUEST, "empty"),
        (json!({"model": "sim-8b", "prompt": [[1], [2]]}), StatusCode::BAD_REQUEST, "batch"),
        (json!({"model": "sim-8b", "prompt": [1], "n": 2}), StatusCode::BAD_REQUEST, "must be 1"),
        (json!({"model": "sim-8b", "prompt": [1], "best_of": 2}), StatusCode::BAD_REQUEST, "must be 1"),
        (json!({"model": "sim-8b", "prompt": [1], "echo": true}), StatusCode::BAD_REQUEST, "echo"),
        (json!({"model": "sim-8b", "prompt": [1], "max_tokens": 0}), StatusCode::BAD_REQUEST, "at least 1"),
        (completion(&prompt(1, 4), 1), StatusCode::BAD_REQUEST, "the device holds 256"),
    ];
    for (path, status, reason) in [
        ("/v1/embeddings", StatusCode::NOT_FOUND, "there is no /v1/embeddings here"),
        ("/v1/models", StatusCode::METHOD_NOT_ALLOWED, "/v1/models does not take POST"),
    ] {
        let (answered, answer) = engine.post(path, &json!({})).await;
        assert_eq!(answered, status, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(reason), "{answer}");
    }
    let (status, answer) = engine.post("/v1/chat/completions", &json!({"model": "sim-8b", "messages": []})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("at least one message"), "{answer}");
    for (body, expected, reason) in cases {
        let (status, answer) = engine.post("/v1/completions", &body).await;
        assert_eq!(status, expected, "{body}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn a_full_queue_answers_503_and_draining_ends_what_runs() {
    let engine = Engine::start(|config| {
        config.waiting_max = 1;
        config.device_tokens = 8 * BLOCK as u64;
        config.pace = Pace { decode_step: Duration::from_millis(300), ..Pace::default() };
    })
    .await;
    let mut long = completion(&prompt(1, 3), 2);
    long["max_tokens"] = json!(3 * BLOCK);
    long["stream"] = json!(true);
    let holder = engine.send("/v1/completions", &long).await;
    let waiting = engine.spawn(&completion(&prompt(2, 3), 1));
    engine.gauge("num_requests_waiting", 1).await;
    let (status, answer) = engine.post("/v1/completions", &completion(&prompt(3, 3), 1)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");

    let drained = tokio::spawn(engine.sim.drain(Duration::from_secs(60)));
    drop(holder);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK, "what was taken in is answered");
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(engine.addr).await.is_err(), "nobody listens any more");
}
