//! Copies that the node makes by itself, from and to an engine's GPU, over the stand-in driver: in two processes, as the driver asks.

use std::process::Stdio;

use weft_attach::SharedCache;
use weft_gpu::{Cache, DeviceBuffer, Gpu, Layer, Stream, ipc};
use weft_gpu_driver::control::Control;
use weft_gpu_driver::stage::on_stage;
use weft_node_client::NodeClient;

use crate::world::{self, DEADLINE, Host, attach_config, prefix};

const LAYERS: usize = 2;
const RATIO: usize = 2;
const PAGES: u32 = 8;
const PAGE_BYTES: usize = 500;

/// Set in the engine's process: whether it ends properly.
const ENDS: &str = "WEFT_TEST_ENGINE_ENDS";

#[tokio::test]
async fn a_node_that_was_not_told_to_copies_nothing() {
    let host = Host::new();
    let node = host.node().await;
    let engine = host.engine("engine").await;
    let nothing = SharedCache {
        device: [0; 16],
        ready: Vec::new(),
        allocations: Vec::new(),
        layers: Vec::new(),
        page_stride: 0,
        page_bytes: 0,
        block_pages: 0,
        pages: 0,
    };
    let reason = engine.share_cache(nothing).await.unwrap_err();
    assert!(reason.contains("gpu_copies is off"), "{reason}");
    assert_eq!(engine.store_pages(&prefix(0..2), &[0, 1, 2, 3]).await.refused, 2);
    node.drain(DEADLINE).await;
}

#[test]
fn the_node_copies_for_an_engine_and_closes_its_memory_when_it_goes() {
    on_stage("gpu::the_node_copies_for_an_engine_and_closes_its_memory_when_it_goes", || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let host = Host::new();
            let node = host.node_with(|config| config.gpu_copies = true).await;
            let control = Control::of_this_process();
            for ends in ["detached", "killed"] {
                let mut engine = std::process::Command::new(std::env::current_exe().unwrap());
                engine.args(["--exact", "gpu::engine_with_a_gpu", "--ignored", "--nocapture"]);
                engine.env("WEFT_TEST_SOCKET", host.socket()).env(ENDS, ends).stdin(Stdio::piped());
                let mut engine = engine.spawn().unwrap();
                let status = tokio::task::spawn_blocking(move || engine.wait()).await.unwrap().unwrap();
                assert_eq!(status.success(), ends == "detached");
                // What it had opened of the engine's is closed; what it has of its own goes with the session too.
                world::eventually(async || {
                    let alive = control.alive();
                    (alive.opened == 0 && alive.streams == 0 && alive.registrations == 0).then_some(())
                })
                .await;
            }
            assert_eq!(control.alive().misuses, 0);
            node.drain(DEADLINE).await;
        });
    });
}

#[tokio::test]
#[ignore = "an engine's process, started by the test above"]
async fn engine_with_a_gpu() {
    let socket = std::env::var_os("WEFT_TEST_SOCKET").unwrap();
    let ends = std::env::var_os(ENDS).unwrap().into_string().unwrap();
    let mut config = attach_config(std::path::Path::new(&socket), &ends);
    config.contract.model_key.model = ends.clone();
    config.contract.parts[0].bytes = (LAYERS * RATIO * PAGE_BYTES) as u64;
    let engine = world::eventually(async || NodeClient::attach(config.clone()).await.ok()).await;

    let gpu = Gpu::open(0).unwrap();
    let layers: Vec<_> = (0..LAYERS).map(|_| DeviceBuffer::new(&gpu, PAGES as usize * PAGE_BYTES).unwrap()).collect();
    let addresses: Vec<_> = layers.iter().map(|layer| Layer { address: layer.address() }).collect();
    let cache = Cache::new(&gpu, &addresses, (PAGES, PAGE_BYTES, PAGE_BYTES as u64), RATIO).unwrap();
    let (stream, ready) = (Stream::new(&gpu).unwrap(), ipc::Ready::new(&gpu).unwrap());
    engine.share_cache(ipc::export(&cache, &ready).unwrap()).await.unwrap();

    // Computed when the node waits for it, and not before.
    for (layer, buffer) in layers.iter().enumerate() {
        for page in 0..4 {
            buffer.fill(page * PAGE_BYTES, PAGE_BYTES, u8::try_from(layer * 10 + page + 1).unwrap(), &stream).unwrap();
        }
    }
    ready.record_on(stream.as_engine()).unwrap();
    let blocks = prefix(0..2);
    let stored = engine.store_pages(&blocks, &[3, 2, 1, 0]).await;
    assert_eq!((stored.stored, stored.present, stored.refused), (2, 0, 0));
    assert_eq!(engine.store_pages(&blocks, &[3, 2, 1, 0]).await.present, 2);
    assert_eq!(engine.store_pages(&prefix(7..8), &[0, PAGES]).await.refused, 1, "a page that is none");

    let loaded = engine.load(&prefix(0..3), DEADLINE).await;
    let expected: Vec<u8> = [4, 3, 14, 13].into_iter().flat_map(|value| [value; PAGE_BYTES]).collect();
    assert_eq!(loaded[0].bytes(), expected);
    let held: Vec<_> = loaded.iter().collect();
    assert_eq!(engine.load_pages(&held, 1, &[5, 6, 7]).await, 3);
    let mut bytes = vec![0; 3 * PAGE_BYTES];
    layers[1].read(5 * PAGE_BYTES, &mut bytes).unwrap();
    assert_eq!([bytes[0], bytes[PAGE_BYTES], bytes[2 * PAGE_BYTES]], [13, 12, 11]);
    if ends == "killed" {
        std::process::abort();
    }
    engine.detach().await;
}
