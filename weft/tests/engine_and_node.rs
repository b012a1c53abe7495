//! Simulated engines on a real node daemon: what one computed the other loads, byte for byte, and a wrong byte is loud.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_engine_sim::{Config, EngineSim, Pace, kv};
use weft_node::Node;
use weft_node_client::{AttachConfig, NodeClient};
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, BlockHasher, Incarnation};

const BLOCK: usize = 64;
/// Longest drain: far above what any of them takes.
const DRAIN_MAX: Duration = Duration::from_secs(30);

struct World {
    folder: TempDir,
    node: Node,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "name": "n1",
            "admin": "127.0.0.1:0",
            "socket": socket(folder.path()),
            "state_dir": folder.path().join("state"),
            "host_memory": "16MiB",
        });
        let node = Node::bind(serde_json::from_value(config).unwrap(), &Telemetry::for_tests()).await.unwrap();
        Self { folder, node }
    }

    fn config(&self, name: &str) -> Config {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/sim-8b");
        let mut config = Config::new(name.parse().unwrap(), model);
        config.addr = "127.0.0.1:0".parse().unwrap();
        config.node_socket = Some(socket(self.folder.path()));
        // Slow enough that a load is always worth it, and has all the time it needs on a busy machine.
        config.pace = Pace { prefill_tokens_per_s: 100, speed: 1.0, ..Pace::default() };
        config.load_deadline = Duration::from_secs(20);
        config
    }

    async fn engine(&self, name: &str, fast: bool) -> EngineSim {
        let mut config = self.config(name);
        if fast {
            config.pace = Pace { speed: 1000.0, ..Pace::default() };
        }
        EngineSim::bind(config, &Telemetry::for_tests()).await.unwrap()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket").join("node.sock")
}

fn prompt(blocks: usize) -> Vec<u32> {
    (0..blocks * BLOCK + 3).map(|position| 1000 + u32::try_from(position % 997).unwrap()).collect()
}

async fn ask(engine: &EngineSim, prompt: &[u32]) -> (StatusCode, Value) {
    let body = json!({"model": "sim-8b", "prompt": prompt, "max_tokens": 4, "ignore_eos": true}).to_string();
    let uri = format!("{}/v1/completions", engine.url());
    let request = Request::post(uri).body(Full::<Bytes>::from(body)).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_engine_computed_another_loads_byte_for_byte() {
    let world = World::start().await;
    let first = world.engine("e1", true).await;
    let (status, computed) = ask(&first, &prompt(3)).await;
    assert_eq!(status, StatusCode::OK, "{computed}");
    assert_eq!(computed["usage"]["weft"]["computed"], 3 * BLOCK + 3);
    // A drained engine has stored what it computed.
    first.drain(DRAIN_MAX).await;

    let second = world.engine("e2", false).await;
    let (status, loaded) = ask(&second, &prompt(3)).await;
    assert_eq!(status, StatusCode::OK, "{loaded}");
    let usage = &loaded["usage"]["weft"];
    assert_eq!((&usage["host"], &usage["computed"]), (&json!(3 * BLOCK), &json!(3)), "{usage}");
    assert_eq!(usage["verified_bytes"], 3 * BLOCK * 256);
    assert_eq!(loaded["choices"][0]["text"], computed["choices"][0]["text"]);
    let (_, again) = ask(&second, &prompt(3)).await;
    assert_eq!(again["usage"]["weft"]["device"], 3 * BLOCK, "loaded blocks are on the device now");
    second.drain(DRAIN_MAX).await;
    world.node.drain(DRAIN_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_fails_the_request_and_names_the_block() {
    const OFFSET: usize = 5000;
    let world = World::start().await;
    let engine = world.engine("e1", false).await;
    let config = world.config("liar");
    let blocks = BlockHasher::new(&config.model_key).prefix(&prompt(3));
    store_with_a_wrong_byte(&world, &config, &blocks, OFFSET).await;

    let (status, answer) = ask(&engine, &prompt(3)).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    assert_eq!(answer["error"]["type"], "kv_mismatch_error");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("block {} differs at byte {OFFSET}", blocks[1])), "{message}");
    engine.drain(DRAIN_MAX).await;
    world.node.drain(DRAIN_MAX).await;
}

/// Another engine of the same contract, which stores the blocks with one byte of the second flipped.
async fn store_with_a_wrong_byte(world: &World, config: &Config, blocks: &[BlockHash], offset: usize) {
    let files = weft_tokens::ModelFiles::load(&config.model_folder).unwrap();
    let attach = AttachConfig {
        socket: socket(world.folder.path()),
        endpoint: config.endpoint.clone(),
        url: "http://127.0.0.1:1".to_owned(),
        incarnation: Incarnation::new(1),
        contract: config.contract(files.tokenizer_digest(), files.template_digest()),
        deadline: Duration::from_secs(20),
    };
    let liar = NodeClient::attach(attach).await.unwrap();
    let stored = liar.store(blocks, |number, slot| {
        kv::fill(&blocks[number], slot);
        slot[offset] ^= u8::from(number == 1);
    });
    assert_eq!(stored.await.stored, blocks.len());
    liar.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_computes_when_its_node_is_gone() {
    let world = World::start().await;
    let first = world.engine("e1", true).await;
    ask(&first, &prompt(3)).await;
    first.drain(DRAIN_MAX).await;
    let second = world.engine("e2", true).await;
    world.node.drain(DRAIN_MAX).await;
    let (status, computed) = ask(&second, &prompt(3)).await;
    assert_eq!(status, StatusCode::OK, "{computed}");
    assert_eq!(computed["usage"]["weft"]["computed"], 3 * BLOCK + 3);
    second.drain(DRAIN_MAX).await;
}
