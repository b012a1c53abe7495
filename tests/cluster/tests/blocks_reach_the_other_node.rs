//! What one node stored, an engine of another node loads: the same bytes, over QUIC.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use serde_json::{Value, json};
use weft_cluster_tests::{Cluster, post};
use weft_node_client::{AttachConfig, LoadSource, NodeClient};
use weft_types::{BlockHasher, BlockSize, Contract, Incarnation, ModelKey, Part};

const BLOCKS: usize = 24;
const BLOCK_BYTES: usize = 40_000;

fn contract() -> Contract {
    let model_key = ModelKey {
        model: "test".into(),
        revision: "1".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "test:u8".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: BLOCK_BYTES as u64, ranks: vec![0] }];
    Contract { model_key, parts, aliases: vec![], tokenizer: String::new(), chat_template: String::new() }
}

async fn attach(cluster: &Cluster, node: u8) -> NodeClient {
    let config = AttachConfig {
        socket: cluster.socket(node),
        endpoint: format!("test-{node}").parse().unwrap(),
        url: format!("http://127.0.0.1:{node}"),
        incarnation: Incarnation::new(1),
        contract: contract(),
        deadline: Duration::from_secs(5),
    };
    NodeClient::attach(config).await.unwrap()
}

/// The index hears of a store within milliseconds.
fn await_host_blocks(cluster: &Cluster, blocks: u64) {
    let held = |status: &Value| (status["tiers"]["host"]["blocks"].as_u64()? >= blocks).then_some(());
    cluster.await_status("the blocks are in the index", held).unwrap();
}

/// Bytes that no other block and no other offset has.
fn byte(block: usize, offset: usize) -> u8 {
    (block * 131 + offset * 7 + offset / 251) as u8
}

#[test]
fn a_block_stored_on_one_node_is_loaded_through_the_other() {
    // Room for two contracts: the simulated engines' and ours.
    let cluster = Cluster::start(&["--host-memory", "256MiB", "--contract-memory", "64MiB"]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (first, second) = (attach(&cluster, 1).await, attach(&cluster, 2).await);
        let tokens: Vec<u32> = (0..BLOCKS as u32 * BlockSize::DEFAULT.get()).collect();
        let blocks = BlockHasher::new(&contract().model_key).prefix(&tokens);
        let fill = |block: usize, slot: &mut [u8]| {
            slot.iter_mut().enumerate().for_each(|(offset, at)| *at = byte(block, offset));
        };
        let stored = first.store(&blocks, fill).await;
        assert_eq!((stored.stored, stored.refused), (BLOCKS, 0));

        await_host_blocks(&cluster, BLOCKS as u64);
        let loaded = second.load(&blocks, Duration::from_secs(5)).await;
        assert_eq!(loaded.len(), BLOCKS, "all blocks reach the other node");
        assert_eq!(loaded[BLOCKS - 1].source(), LoadSource::Peer);
        for (number, block) in loaded.iter().enumerate() {
            assert_eq!(block.hash(), blocks[number]);
            assert_eq!(block.bytes().len(), BLOCK_BYTES);
            let wrong = block.bytes().iter().enumerate().find(|(offset, at)| **at != byte(number, *offset));
            assert_eq!(wrong, None, "block {number} differs");
        }
        drop(loaded);
        let again = second.load(&blocks, Duration::from_secs(5)).await;
        assert_eq!(again[0].source(), LoadSource::Host, "a fetched block is kept");
    });
}

#[test]
fn an_engine_loads_what_another_nodes_engine_computed() {
    // Computing takes half a second: a load that would take longer than computing is given up, whatever the machine is doing.
    let cluster = Cluster::start(&["--prefill", "2000"]).unwrap();
    let prompt: Vec<u32> = (300..300 + 1000).collect();
    let ask = |engine: u8| {
        let body = json!({ "model": "sim-8b", "prompt": prompt, "max_tokens": 1 });
        let (status, answer) = post(&format!("{}/v1/completions", cluster.engine(engine)), &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["usage"]["weft"].clone()
    };
    let computed = ask(1);
    assert_eq!(computed["computed"], 1000);
    // 15 full blocks of 64 tokens; engine 2 is on the other node.
    await_host_blocks(&cluster, 15);
    let loaded = ask(2);
    assert_eq!((&loaded["peer"], &loaded["computed"]), (&json!(960), &json!(40)), "{loaded}");
    assert_eq!(loaded["verified_bytes"], 960 * 256, "every byte was compared");
}
