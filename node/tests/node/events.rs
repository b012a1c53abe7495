//! Engines that publish their KV-cache events: what is on their devices is listed, whether they attach or not.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use weft_node::{EngineConfig, Node, ServesConfig};
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, BlockHasher, BlockSize, Contract, ModelKey};
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::fleet::Fleet;
use crate::metadata::device;
use crate::world::{self, DEADLINE, contract, metric};

/// Publishes and replays as vLLM does.
struct Engine {
    socket: PubSocket,
    address: String,
    replay: String,
    published: Arc<Mutex<Vec<Bytes>>>,
    replaying: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.replaying.abort();
    }
}

fn frames(first: &[Bytes], number: u64, payload: Bytes) -> ZmqMessage {
    let batch = [Bytes::from_static(b"kv@e0"), Bytes::copy_from_slice(&number.to_be_bytes()), payload];
    ZmqMessage::try_from(first.iter().cloned().chain(batch).collect::<Vec<_>>()).unwrap()
}

impl Engine {
    async fn start(address: &str) -> Self {
        let published = Arc::<Mutex<Vec<Bytes>>>::default();
        let (mut socket, mut router) = (PubSocket::new(), RouterSocket::new());
        let address = socket.bind(address).await.unwrap().to_string();
        let replay = router.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
        let kept = Arc::clone(&published);
        let replaying = tokio::spawn(async move {
            while let Ok(request) = router.recv().await {
                let from = u64::from_be_bytes(request.get(2).unwrap().as_ref().try_into().unwrap());
                let batches = kept.lock().unwrap().clone();
                let to = [request.get(0).unwrap().clone(), Bytes::new()];
                for (number, payload) in (0..).zip(batches).filter(|(number, _)| *number >= from) {
                    router.send(frames(&to, number, payload)).await.unwrap();
                }
                router.send(frames(&to, u64::MAX, Bytes::new())).await.unwrap();
            }
        });
        Self { socket, address, replay, published, replaying }
    }

    async fn publish(&mut self, event: Value) {
        let payload = Bytes::from(rmp_serde::to_vec_named(&json!([0.5, [event], 0])).unwrap());
        let number = {
            let mut published = self.published.lock().unwrap();
            published.push(payload.clone());
            published.len() as u64 - 1
        };
        self.socket.send(frames(&[], number, payload)).await.unwrap();
    }

    fn config(&self, serves: Option<ServesConfig>) -> EngineConfig {
        EngineConfig {
            endpoint: "e0".parse().unwrap(),
            kv_events: self.address.clone(),
            replay: Some(self.replay.clone()),
            topic: String::new(),
            adapters: [("poet".to_owned(), "digest".to_owned())].into(),
            serves,
        }
    }
}

/// The first blocks of one prompt, of 32 tokens in the engine and 64 in weft.
fn stored(blocks: u32, more: Value) -> Value {
    let mut event = json!({
        "type": "BlockStored", "block_hashes": (0..2 * blocks).collect::<Vec<_>>(), "parent_block_hash": null,
        "token_ids": tokens(blocks), "block_size": 32, "medium": "GPU",
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn tokens(blocks: u32) -> Vec<u32> {
    (0..64 * blocks).collect()
}

fn blocks_under(key: &ModelKey, count: u32) -> Vec<BlockHash> {
    BlockHasher::new(key).prefix(&tokens(count))
}

#[tokio::test]
async fn what_an_attached_engine_publishes_is_on_its_device() {
    let fleet = Fleet::new();
    let telemetry = Telemetry::for_tests();
    let mut publisher = Engine::start("tcp://127.0.0.1:0").await;
    let mut config = fleet.config(0);
    config.engines = vec![publisher.config(None)];
    let node = Node::bind(config, &telemetry).await.unwrap();
    publisher.publish(stored(4, json!({}))).await;
    let first = fleet.engine(0, "e0").await;
    // What it reports itself would be the second word on the same thing.
    let blocks = blocks_under(&contract("model").model_key, 4);
    first.device_changed(&world::prefix(0..1), &[]);
    fleet.believes(&device("e0"), &blocks, |_| true).await;
    fleet.believes(&device("e0"), &world::prefix(0..1), |_| false).await;
    assert_eq!(metric(&telemetry, "weft_node_kv_events_blocks", "e0"), 4.0);
    assert!(metric(&telemetry, "weft_node_kv_events_lag_seconds", "e0") > 0.0, "it was published in 1970");

    publisher.publish(json!({"type": "BlockRemoved", "block_hashes": [5], "medium": "GPU"})).await;
    fleet.believes(&device("e0"), &blocks, |block| block != 2).await;
    publisher.publish(json!({"type": "AllBlocksCleared"})).await;
    fleet.believes(&device("e0"), &blocks, |_| false).await;

    let adapted = ModelKey { adapter: "digest".to_owned(), ..contract("model").model_key };
    publisher.publish(stored(2, json!({"lora_name": "poet"}))).await;
    fleet.believes(&device("e0"), &blocks_under(&adapted, 2), |_| true).await;

    // It detaches: nobody vouches for it. It is back, with all that it has published and not taken back.
    drop(first);
    world::eventually(async || fleet.group.roster().endpoints.is_empty().then_some(())).await;
    let _second = fleet.engine(0, "e0").await;
    fleet.believes(&device("e0"), &blocks_under(&adapted, 2), |_| true).await;

    // It begins anew, as after a crash that the node saw nothing of.
    let address = publisher.address.clone();
    drop(publisher);
    fleet.believes(&device("e0"), &blocks_under(&adapted, 2), |_| false).await;
    let mut publisher = Engine::start(&address).await;
    world::eventually(async || {
        publisher.publish(stored(1, json!({}))).await;
        fleet.group.holds(&device("e0"), &blocks[..1])[0].then_some(())
    })
    .await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn an_engine_without_a_connector_is_listed_while_it_publishes() {
    let fleet = Fleet::new();
    let mut publisher = Engine::start("tcp://127.0.0.1:0").await;
    let mut config = fleet.config(0);
    let serves = ServesConfig {
        url: "http://e0:8000".to_owned(),
        model: "plain".to_owned(),
        aliases: vec!["alias".to_owned()],
        block_tokens: BlockSize::DEFAULT,
    };
    config.engines = vec![publisher.config(Some(serves))];
    let node = Node::bind(config, &Telemetry::for_tests()).await.unwrap();
    publisher.publish(stored(4, json!({}))).await;
    let endpoint = "e0".parse().unwrap();
    let listed = world::eventually(async || fleet.group.roster().endpoints.get(&endpoint).cloned()).await;
    let Contract { model_key, aliases, .. } = &listed.contracts[0];
    assert_eq!((listed.url.as_str(), model_key.model.as_str()), ("http://e0:8000", "plain"));
    assert_eq!((listed.node.as_ref(), &aliases[..]), (Some(node.id()), &["alias".to_owned()][..]));
    fleet.believes(&device("e0"), &blocks_under(model_key, 4), |_| true).await;

    drop(publisher);
    world::eventually(async || fleet.group.roster().endpoints.is_empty().then_some(())).await;
    node.drain(DEADLINE).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_at_start() {
    let host = world::Host::new();
    let engine = |kv_events: &str| EngineConfig {
        endpoint: "e0".parse().unwrap(),
        kv_events: kv_events.to_owned(),
        replay: None,
        topic: String::new(),
        adapters: [].into(),
        serves: None,
    };
    for (engines, expected) in [
        (vec![engine("10.0.0.7:5557")], "expected tcp://HOST:PORT"),
        (vec![engine("tcp://10.0.0.7:5557"), engine("tcp://10.0.0.7:5558")], "endpoint e0 is there twice"),
    ] {
        let config = host.config(|config| config.engines = engines);
        let error = Node::bind(config, &Telemetry::for_tests()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
