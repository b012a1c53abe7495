//! What the tests of a node share: hosts, engines, blocks with bytes that follow from their hash.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use weft_attach::{recv_with_descriptors, send_with_descriptors};
use weft_node::{Config, Node};
use weft_node_client::{AttachConfig, NodeClient, Stored};
use weft_service::telemetry::Telemetry;
use weft_types::{BlockHash, BlockSize, ByteSize, Contract, Incarnation, ModelKey, Part};

/// Bytes of a block: not a multiple of anything.
pub(crate) const BLOCK_BYTES: u64 = 3001;

/// Longer than anything takes that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A host: a directory for its node's socket and state.
pub(crate) struct Host {
    path: PathBuf,
    /// `None`: the process that started this one removes it.
    _directory: Option<TempDir>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().to_owned(), _directory: Some(directory) }
    }

    /// The host whose node has this socket.
    pub(crate) fn of(socket: &Path) -> Self {
        Self { path: socket.parent().unwrap().parent().unwrap().to_owned(), _directory: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("run/node.sock")
    }

    pub(crate) fn config(&self, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::new("n1".parse().unwrap());
        let any = "127.0.0.1:0".parse().unwrap();
        (config.fabric, config.bulk, config.admin) = (any, any, any);
        config.socket = self.socket();
        config.state_dir = self.path().join("state");
        config.host_memory = ByteSize::from_mib(8);
        change(&mut config);
        config
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_with(|_| {}).await
    }

    pub(crate) async fn node_with(&self, change: impl FnOnce(&mut Config)) -> Node {
        Node::bind(self.config(change), &Telemetry::for_tests()).await.unwrap()
    }

    pub(crate) async fn engine(&self, name: &str) -> NodeClient {
        NodeClient::attach(attach_config(&self.socket(), name)).await.unwrap()
    }

    /// Runs an ignored test of this binary as a process of its own.
    pub(crate) fn process(&self, test: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("WEFT_TEST_SOCKET", self.socket())
            .spawn()
            .unwrap()
    }

    /// A socket that passes one handshake on to the node, and nothing after it.
    pub(crate) fn proxy_that_hangs(&self) -> PathBuf {
        let (path, node) = (self.path().join("proxy.sock"), self.socket());
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut engine, _) = listener.accept().await.unwrap();
            let mut node = UnixStream::connect(node).await.unwrap();
            let (hello, _) = recv_with_descriptors(&mut engine).await.unwrap();
            send_with_descriptors(&mut node, &hello, &[]).await.unwrap();
            let (welcome, descriptors) = recv_with_descriptors(&mut node).await.unwrap();
            let descriptors: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
            send_with_descriptors(&mut engine, &welcome, &descriptors).await.unwrap();
            std::future::pending::<()>().await;
        });
        path
    }
}

pub(crate) fn attach_config(socket: &Path, name: &str) -> AttachConfig {
    AttachConfig {
        socket: socket.to_owned(),
        endpoint: name.parse().unwrap(),
        url: format!("http://{name}"),
        incarnation: Incarnation::new(1),
        contract: contract("model"),
        deadline: DEADLINE,
    }
}

pub(crate) fn contract(model: &str) -> Contract {
    let model_key = ModelKey {
        model: model.into(),
        revision: "1".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "test".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: BLOCK_BYTES, ranks: vec![0] }];
    Contract { model_key, parts, aliases: Vec::new(), tokenizer: String::new(), chat_template: String::new() }
}

/// Block number `number`.
pub(crate) fn hash(number: u32) -> BlockHash {
    let mut bytes = [0x5a; BlockHash::LEN];
    // In front, so that index keys differ too.
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    // And what is told apart by a part of a hash only.
    bytes[8..12].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
    BlockHash::from_bytes(bytes)
}

pub(crate) fn prefix(numbers: Range<u32>) -> Vec<BlockHash> {
    numbers.map(hash).collect()
}

/// Bytes of a block, all of which depend on its hash.
pub(crate) fn bytes_of(block: &BlockHash) -> Vec<u8> {
    let seed = block.as_bytes();
    (0..BLOCK_BYTES as usize).map(|at| seed[at % 4] ^ (at as u8).wrapping_mul(31)).collect()
}

/// Stores blocks with the bytes they should have.
pub(crate) async fn store(engine: &NodeClient, blocks: &[BlockHash]) -> Stored {
    engine.store(blocks, |position, slot| slot.copy_from_slice(&bytes_of(&blocks[position]))).await
}

/// Polls until `look` sees it. The test runner's own time limit ends a wait that is in vain.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A metric's value; of a family with one label, the one with this label's value.
pub(crate) fn metric(telemetry: &Telemetry, name: &str, label: &str) -> f64 {
    let families = telemetry.registry.gather();
    let family = families.iter().find(|family| family.name() == name).unwrap();
    let labelled = |metric: &&prometheus::proto::Metric| {
        label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
    };
    let metric = family.get_metric().iter().find(labelled).unwrap();
    metric.get_gauge().get_value() + metric.get_counter().get_value()
}
