//! The admin port over real HTTP.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use weft_service::admin::{Admin, Hooks};
use weft_service::telemetry::Telemetry;

async fn get(admin: &Admin, path: &str) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(format!("http://{}{path}", admin.addr()).parse().unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn every_route_answers() {
    let telemetry = Telemetry::for_tests();
    let counter = prometheus::IntCounter::new("weft_test_things_total", "Things.").unwrap();
    telemetry.registry.register(Box::new(counter.clone())).unwrap();
    counter.inc_by(3);
    let serving = Arc::new(AtomicBool::new(false));
    let hooks = Hooks {
        ready: {
            let serving = Arc::clone(&serving);
            Arc::new(move || if serving.load(Ordering::Relaxed) { Ok(()) } else { Err("no leader yet".into()) })
        },
        state: Arc::new(|| serde_json::json!({ "blocks": 7 })),
    };
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), &telemetry, hooks.clone()).await.unwrap();

    assert_eq!(get(&admin, "/live").await, (200, "live\n".into()));
    assert_eq!(get(&admin, "/ready").await, (503, "not ready: no leader yet\n".into()));
    serving.store(true, Ordering::Relaxed);
    assert_eq!(get(&admin, "/ready").await.0, 200);
    assert!(get(&admin, "/metrics").await.1.contains("weft_test_things_total 3"));
    assert_eq!(get(&admin, "/state").await.1, r#"{"blocks":7}"#);
    assert_eq!(get(&admin, "/prompts").await.0, 404);

    let taken = Admin::bind(admin.addr(), &telemetry, hooks).await.unwrap_err().to_string();
    assert!(taken.contains("choose another"), "{taken}");
}
