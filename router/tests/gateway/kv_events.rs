//! Engines without weft, which publish what they have cached.

use bytes::Bytes;
use serde_json::{Value, json};
use weft_router::KvEventsConfig;
use weft_types::BlockSize;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::cluster::{CHAT, Cluster, chat, soon};
use crate::engine::Engine;
use crate::prefix::{asked, is, prompt};

/// Publishes as vLLM does.
struct Publisher {
    socket: PubSocket,
    number: u64,
}

impl Publisher {
    async fn publish(&mut self, event: Value) {
        let payload = rmp_serde::to_vec_named(&json!([0.5, [event], 0])).unwrap();
        let frames = [Bytes::from_static(b"kv@e1"), Bytes::copy_from_slice(&self.number.to_be_bytes()), payload.into()];
        self.socket.send(ZmqMessage::try_from(frames.to_vec()).unwrap()).await.unwrap();
        self.number += 1;
    }
}

fn stored(tokens: &[u32]) -> Value {
    let blocks = tokens.len() / 32;
    json!({
        "type": "BlockStored", "block_hashes": (0..blocks).collect::<Vec<_>>(), "parent_block_hash": null,
        "token_ids": &tokens[..blocks * 32], "block_size": 32, "medium": "GPU",
    })
}

#[tokio::test]
async fn a_prompt_goes_where_the_engines_say_it_is_cached() {
    let (mut e0, mut e1) = (Engine::start().await, Engine::start().await);
    let mut socket = PubSocket::new();
    let address = socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let (nowhere, block_tokens) = (None, BlockSize::new(64).unwrap());
    let cluster = Cluster::of(&[&e0, &e1], |config| {
        let events =
            |address: String| KvEventsConfig { address, replay: nowhere.clone(), topic: String::new(), block_tokens };
        // Nobody publishes at e0's address: it is routed to all the same.
        config.endpoints[0].kv_events = Some(events("tcp://127.0.0.1:9".to_owned()));
        config.endpoints[1].kv_events = Some(events(address));
    })
    .await;
    let (content, tokens) = prompt();
    let mut publisher = Publisher { socket, number: 0 };
    // Whoever subscribes hears nothing of what was published before.
    let followed = "weft_router_kv_events_blocks{endpoint=\"e1\"} 8";
    soon(async {
        while !cluster.admin("/metrics").await.lines().any(|line| line == followed) {
            publisher.publish(json!({"type": "AllBlocksCleared"})).await;
            publisher.publish(stored(&tokens)).await;
        }
    })
    .await;
    let mut engines = [&mut e0, &mut e1];
    for _ in 0..4 {
        assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 512));
    }
    // Its second weft block loses half.
    publisher.publish(json!({"type": "BlockRemoved", "block_hashes": [3], "medium": "GPU"})).await;
    cluster.metric("weft_router_kv_events_blocks{endpoint=\"e1\"} 7").await;
    assert_eq!(asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await, is("e1", 64));
    drop(publisher);
    cluster.metric("weft_router_kv_events_connected{endpoint=\"e1\"} 0").await;
    cluster.metric("weft_router_kv_events_blocks{endpoint=\"e1\"} 0").await;
    let (_, matched) = asked(&cluster, &mut engines, CHAT, &chat(&content, false)).await;
    assert_eq!(matched, "0", "an engine that is gone has nothing cached");
}
