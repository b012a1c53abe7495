//! Who calls is decided by a key, and what a tenant hits is its own.

use std::path::Path;

use http::{Request, StatusCode};
use serde_json::{Value, json};
use weft_router::{Config, Keyless};
use weft_types::ApiKey;

use crate::cluster::{CHAT, Cluster, chat, endpoint, soon, text};
use crate::engine::Engine;
use crate::prefix::prompt;

fn key(id: &str) -> ApiKey {
    ApiKey::new(id.parse().unwrap(), [id.as_bytes()[0]; 32])
}

fn salt(tenant: &str) -> String {
    hex(tenant.as_bytes()[0])
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

/// A file of tenants, each with the keys named; written whole, as an editor or a mounted secret does.
fn write(file: &Path, tenants: &[(&str, &[&str])]) {
    let mut text = String::new();
    for (tenant, keys) in tenants {
        text += &format!("[tenants.{tenant}]\nsalt = '{}'\n", salt(tenant));
        for id in *keys {
            text += &format!("keys.{id} = '{}'\n", key(id).hash().reveal());
        }
    }
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file).unwrap();
}

struct Keyed {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Keyed {
    async fn of(engines: &[&Engine], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        write(&file, &[("acme", &["ci"]), ("beta", &["dev"])]);
        let cluster = Cluster::of_roster(engines, |config| {
            config.keys.file = Some(file);
            change(config);
        })
        .await;
        Self { cluster, folder }
    }

    fn write(&self, tenants: &[(&str, &[&str])]) {
        write(&self.folder.path().join("keys.toml"), tenants);
    }

    fn request(&self, id: &str, path: &str, body: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
        let mut request = self.cluster.request(path, body);
        let bearer = format!("Bearer {}", key(id).reveal()).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        request
    }

    async fn status(&self, id: &str) -> StatusCode {
        let mut request = self.request(id, "/v1/models", "");
        *request.method_mut() = http::Method::GET;
        soon(self.cluster.client.request(request)).await.unwrap().status()
    }

    async fn becomes(&self, id: &str, status: StatusCode) {
        soon(async {
            while self.status(id).await != status {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn whoever_brings_no_known_key_gets_nothing() {
    let mut engine = Engine::start().await;
    let keyed = Keyed::of(&[&engine], |_| {}).await;
    let mut requests = vec![keyed.cluster.request(CHAT, &chat("hello", false))];
    for (header, value) in [
        ("authorization", "Bearer sk-other".to_owned()),
        ("authorization", format!("Bearer {}", key("unknown").reveal())),
        ("authorization", format!("Bearer weft_ci_{}", hex(0))),
        ("authorization", format!("Basic {}", key("ci").reveal())),
        ("x-api-key", "weft_ci".to_owned()),
        ("api-key", key("ci").reveal()),
    ] {
        let mut request = keyed.cluster.request(CHAT, &chat("hello", false));
        request.headers_mut().insert(http::HeaderName::try_from(header).unwrap(), value.parse().unwrap());
        requests.push(request);
    }
    let count = requests.len();
    for request in requests {
        let shown = format!("{:?}", request.headers());
        let answer = soon(keyed.cluster.client.request(request)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{shown}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let error: Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(error["error"]["code"], "invalid_api_key", "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{error}");
    }
    assert_eq!(keyed.cluster.get("/v1/models").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(keyed.cluster.get("/health").await.status(), StatusCode::OK, "a load balancer has no key");
    assert!(engine.is_idle());
    keyed.cluster.metric(&format!("weft_router_requests_total{{outcome=\"unauthorized\"}} {}", count + 1)).await;
}

#[tokio::test]
async fn the_salt_is_the_tenants_whatever_the_client_sends_and_the_key_stays_here() {
    let mut engine = Engine::start().await;
    let keyed = Keyed::of(&[&engine], |config| config.keys.counted_tenants = 1).await;
    let bodies = [
        (chat("hello", false), None),
        (r#"{"model": "sim-8b", "messages": [], "cache_salt": "mine"}"#.to_owned(), Some("mine")),
        (r#"{"cache_\u0073alt": {"a": [1]}, "model": "sim-8b", "messages": []}"#.to_owned(), Some("other")),
    ];
    for (id, tenant) in [("ci", "acme"), ("dev", "beta")] {
        for (path, (body, _)) in
            [CHAT, "/v1/responses", "/v1/messages"].iter().flat_map(|path| bodies.iter().map(move |body| (path, body)))
        {
            let answering = keyed.cluster.sending(keyed.request(id, path, body));
            let asked = engine.asked().await;
            let sent: Value = serde_json::from_slice(&asked.body).unwrap();
            let mut expected: Value = serde_json::from_str(body).unwrap();
            expected["cache_salt"] = json!(salt(tenant));
            assert_eq!(sent, expected);
            assert!(!format!("{:?}", asked.headers).contains("weft_"), "{:?}", asked.headers);
            asked.answer_json("{}");
            answering.await.unwrap();
        }
    }
    // Anthropic's clients have a header of their own.
    let mut request = keyed.cluster.request("/v1/messages", r#"{"model": "sim-8b"}"#);
    request.headers_mut().insert("x-api-key", key("ci").reveal().parse().unwrap());
    let answering = keyed.cluster.sending(request);
    let asked = engine.asked().await;
    assert!(asked.headers.get("x-api-key").is_none());
    asked.answer_json("{}");
    answering.await.unwrap();
    keyed.cluster.metric("weft_router_tenant_requests_total{tenant=\"acme\"} 10").await;
    keyed.cluster.metric("weft_router_tenant_requests_total{tenant=\"(others)\"} 9").await;
}

#[tokio::test]
async fn an_engine_that_takes_no_salt_gets_none() {
    let mut engine = Engine::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    write(&file, &[("acme", &["ci"])]);
    let cluster = Cluster::of(&[&engine], |config| {
        config.keys.file = Some(file);
        config.endpoints[0].cache_salt = false;
    })
    .await;
    let keyed = Keyed { cluster, folder };
    let salted = r#"{"model": "sim-8b", "messages": [], "cache_salt": "mine"}"#;
    for (body, sent) in
        [(chat("hello", false), chat("hello", false)), (salted.to_owned(), salted.replace("\"mine\"", "null"))]
    {
        let answering = keyed.cluster.sending(keyed.request("ci", CHAT, &body));
        let asked = engine.asked().await;
        assert_eq!(asked.body, sent);
        asked.answer_json("{}");
        answering.await.unwrap();
    }
}

#[tokio::test]
async fn what_one_tenant_asked_is_no_hit_for_another() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let keyed = Keyed::of(&[&e0, &e1], |_| {}).await;
    let (content, tokens) = prompt();
    keyed.cluster.directory.store_salted(&salt("acme"), "e1:0/device", &tokens, 4);
    // Somebody without a salt, too.
    keyed.cluster.directory.store("e0:0/device", &tokens, 8);
    for (id, matched) in [("ci", "256"), ("dev", "0"), ("ci", "256")] {
        let answering = keyed.cluster.sending(keyed.request(id, CHAT, &chat(&content, false)));
        let asked = tokio::select! { asked = e0.asked() => asked, asked = e1.asked() => asked };
        asked.answer_json("{}");
        let answer = answering.await.unwrap();
        assert_eq!(answer.headers()["x-weft-matched-tokens"], matched, "{id}");
        assert!(matched == "0" || endpoint(&answer) == "e1");
    }
    keyed.cluster.metric("weft_router_matched_tokens_total{source=\"device\"} 512").await;
}

#[tokio::test]
async fn one_tenants_burst_keeps_nobody_else_out() {
    let mut engine = Engine::start().await;
    let keyed = Keyed::of(&[&engine], |config| config.limits.requests_per_tenant = 1).await;
    let first = keyed.cluster.sending(keyed.request("ci", CHAT, &chat("hello", false)));
    let held = engine.asked().await;
    let refused = soon(keyed.cluster.client.request(keyed.request("ci", CHAT, &chat("hello", false)))).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert!(text(refused).await.contains("rate_limit_exceeded"));
    let other = keyed.cluster.sending(keyed.request("dev", CHAT, &chat("hello", false)));
    engine.asked().await.answer_json("{}");
    assert_eq!(other.await.unwrap().status(), StatusCode::OK);
    held.answer_json("{}");
    text(first.await.unwrap()).await;
    keyed.cluster.metric("weft_router_in_flight_requests 0").await;
    let again = keyed.cluster.sending(keyed.request("ci", CHAT, &chat("hello", false)));
    engine.asked().await.answer_json("{}");
    assert_eq!(again.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_file_is_followed_and_a_broken_one_changes_nothing() {
    let engine = Engine::start().await;
    let keyed = Keyed::of(&[&engine], |_| {}).await;
    assert_eq!(keyed.status("ci").await, StatusCode::OK);
    assert_eq!(keyed.status("new").await, StatusCode::UNAUTHORIZED);
    std::fs::write(keyed.folder.path().join("keys.toml"), "[tenants").unwrap();
    keyed.write(&[("acme", &["new"])]);
    keyed.becomes("new", StatusCode::OK).await;
    assert_eq!(keyed.status("ci").await, StatusCode::UNAUTHORIZED, "its key was taken out");
    assert_eq!(keyed.status("dev").await, StatusCode::UNAUTHORIZED, "so was its tenant");
    keyed.write(&[]);
    std::fs::write(keyed.folder.path().join("keys.toml"), "tenants = {}").unwrap();
    keyed.becomes("new", StatusCode::UNAUTHORIZED).await;
    assert_eq!(
        keyed.cluster.get("/v1/models").await.status(),
        StatusCode::UNAUTHORIZED,
        "no key left, and no door open"
    );
}

#[tokio::test]
async fn without_keys_all_are_one_and_a_key_of_the_engines_goes_through() {
    let mut engine = Engine::start().await;
    let cluster = Cluster::of(&[&engine], |_| {}).await;
    let mut request = cluster.request(CHAT, r#"{"model": "sim-8b", "messages": [], "cache_salt": "mine"}"#);
    request.headers_mut().insert("authorization", "Bearer sk-engine".parse().unwrap());
    let answering = cluster.sending(request);
    let asked = engine.asked().await;
    assert_eq!(asked.headers["authorization"], "Bearer sk-engine");
    assert_eq!(asked.body, r#"{"model": "sim-8b", "messages": [], "cache_salt": null}"#);
    asked.answer_json("{}");
    assert_eq!(answering.await.unwrap().status(), StatusCode::OK);
    let mut wrong = cluster.request(CHAT, &chat("hello", false));
    wrong.headers_mut().insert("authorization", format!("Bearer {}", key("ci").reveal()).parse().unwrap());
    let answer = soon(cluster.client.request(wrong)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "a key of ours that is nobody's is not nobody's request");
}

#[tokio::test]
async fn callers_without_a_key_are_served_beside_tenants_where_that_is_wanted() {
    let mut engine = Engine::start().await;
    let keyed = Keyed::of(&[&engine], |config| {
        config.keys.keyless = Keyless::Always;
        config.cache_salt = "open".to_owned();
    })
    .await;
    let answering = keyed.cluster.posting(CHAT, &chat("hello", false));
    let asked = engine.asked().await;
    assert_eq!(serde_json::from_slice::<Value>(&asked.body).unwrap()["cache_salt"], "open");
    asked.answer_json("{}");
    assert_eq!(answering.await.unwrap().status(), StatusCode::OK);
    assert_eq!(keyed.status("ci").await, StatusCode::OK);
    assert_eq!(keyed.status("unknown").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_at_start_is_named() {
    let config = Config {
        keys: weft_router::KeysConfig { file: Some("/nowhere/keys.toml".into()), ..Default::default() },
        ..Config::default()
    };
    let config = Config { http: "127.0.0.1:0".parse().unwrap(), admin: "127.0.0.1:0".parse().unwrap(), ..config };
    let error = weft_router::Router::bind(config, &weft_service::telemetry::Telemetry::for_tests()).await.unwrap_err();
    assert!(error.to_string().contains("cannot read the file of API keys /nowhere/keys.toml"), "{error}");
}
