//! Following an engine over real sockets; the engine is ours, its sockets and bytes are as vLLM's.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_event_feed::{Progress, Publisher, Snapshot, follow};
use weft_events::{BlockChange, DeviceBlocks};
use weft_types::{BlockHash, BlockHasher, BlockSize, ModelKey};
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// No test waits longer: nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn key() -> ModelKey {
    let text = |text: &str| text.to_owned();
    let (model, revision, adapter, salt, layout) = (text("m"), text(""), text(""), text(""), text(""));
    ModelKey { model, revision, adapter, salt, layout, block_tokens: BlockSize::new(2).unwrap() }
}

/// A block of one chain each, so that any of them may be lost.
fn block(number: u64) -> BlockHash {
    let token = u32::try_from(number).unwrap();
    BlockHasher::new(&key()).prefix(&[token, token])[0]
}

/// The batch that stores block `number`.
fn payload(number: u64) -> Bytes {
    let event = json!({
        "type": "BlockStored", "block_hashes": [number], "parent_block_hash": null, "token_ids": [number, number],
        "block_size": 2, "medium": "GPU",
    });
    rmp_serde::to_vec_named(&json!([0.5, [event], 0])).unwrap().into()
}

fn frames(frames: impl IntoIterator<Item = Bytes>) -> ZmqMessage {
    ZmqMessage::try_from(frames.into_iter().collect::<Vec<_>>()).unwrap()
}

fn batch(number: u64) -> [Bytes; 3] {
    [Bytes::from_static(b"kv@e1"), Bytes::copy_from_slice(&number.to_be_bytes()), payload(number)]
}

/// Publishes; whatever it published can be replayed if it has a replay socket.
struct Engine {
    socket: PubSocket,
    address: String,
}

impl Engine {
    async fn start(address: &str) -> Self {
        let mut socket = PubSocket::new();
        let address = socket.bind(address).await.unwrap().to_string();
        Self { socket, address }
    }

    async fn publish(&mut self, number: u64) {
        self.socket.send(frames(batch(number))).await.unwrap();
    }
}

/// Replays the batches `kept` to whoever asks; tells what it was asked for.
async fn replays(kept: Arc<Mutex<Vec<u64>>>) -> (String, mpsc::UnboundedReceiver<u64>) {
    let mut socket = RouterSocket::new();
    let address = socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(request) = socket.recv().await {
            let asker = request.get(0).unwrap().clone();
            let from = u64::from_be_bytes(request.get(2).unwrap().as_ref().try_into().unwrap());
            tell.send(from).unwrap();
            let numbers: Vec<u64> = kept.lock().unwrap().iter().copied().filter(|number| *number >= from).collect();
            for number in numbers {
                let answer = [asker.clone(), Bytes::new()].into_iter().chain(batch(number));
                socket.send(frames(answer)).await.unwrap();
            }
            let end = [asker, Bytes::new(), Bytes::new(), Bytes::from_static(&[0xff; 8]), Bytes::new()];
            socket.send(frames(end)).await.unwrap();
        }
    });
    (address, asked)
}

struct Following {
    changes: mpsc::UnboundedReceiver<BlockChange>,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl Following {
    fn start(address: &str, replay: Option<String>) -> Self {
        let publisher = Publisher { address: address.to_owned(), replay, topic: "kv@".to_owned() };
        let (tell, changes) = mpsc::unbounded_channel();
        let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
        let (counted, stopped) = (Arc::clone(&progress), stop.clone());
        tokio::spawn(async move {
            let changed = |some: &[BlockChange]| some.iter().for_each(|change| tell.send(*change).unwrap());
            follow(&publisher, DeviceBlocks::new(key(), BTreeMap::new()), &counted, changed, &stopped).await;
        });
        Self { changes, progress, stop }
    }

    async fn next(&mut self) -> BlockChange {
        timeout(PATIENCE, self.changes.recv()).await.expect("a change comes").expect("the follower lives")
    }

    /// Publishes batches from `number` on until one is heard: whoever subscribes hears nothing of what was published before.
    /// Returns the number of the first that was heard, and its change.
    async fn join(&mut self, engine: &mut Engine, mut number: u64) -> u64 {
        loop {
            engine.publish(number).await;
            match timeout(Duration::from_millis(50), self.changes.recv()).await {
                Ok(Some(BlockChange::Stored(hash))) if hash == block(number) => return number,
                Ok(other) => panic!("{other:?} came, and batch {number} was published"),
                Err(_) => number += 1,
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.progress.snapshot()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn what_was_missed_is_replayed() {
    let mut engine = Engine::start("tcp://127.0.0.1:0").await;
    let kept = Arc::new(Mutex::new(vec![0, 1, 2]));
    let (replay, mut asked) = replays(Arc::clone(&kept)).await;
    let mut following = Following::start(&engine.address, Some(replay));
    // The engine is silent: what it published before is had at once.
    for number in 0..3 {
        assert_eq!(following.next().await, BlockChange::Stored(block(number)));
    }
    assert_eq!(timeout(PATIENCE, asked.recv()).await.unwrap(), Some(0));

    *kept.lock().unwrap() = (0..1000).collect();
    let mut missed = 5;
    let heard = loop {
        engine.publish(missed).await;
        if let Ok(change) = timeout(Duration::from_millis(50), following.changes.recv()).await {
            break change.unwrap();
        }
        missed += 1;
    };
    assert_eq!((heard, timeout(PATIENCE, asked.recv()).await.unwrap()), (BlockChange::Stored(block(3)), Some(3)));
    // The replay has more than was published yet: what comes after it is known already.
    for number in 4..1000 {
        assert_eq!(following.next().await, BlockChange::Stored(block(number)));
    }
    engine.publish(missed + 1).await;
    engine.publish(1000).await;
    assert_eq!(following.next().await, BlockChange::Stored(block(1000)));
    let snapshot = following.snapshot();
    assert_eq!((snapshot.batches, snapshot.replayed, snapshot.lost, snapshot.resident), (1001, 1000, 0, 1001));
}

#[tokio::test]
async fn what_cannot_be_had_again_costs_all_that_was_known() {
    let mut engine = Engine::start("tcp://127.0.0.1:0").await;
    let mut following = Following::start(&engine.address, None);
    let first = following.join(&mut engine, 0).await;
    engine.publish(first + 1).await;
    assert_eq!(following.next().await, BlockChange::Stored(block(first + 1)));
    engine.publish(first + 3).await;
    let mut gone = [following.next().await, following.next().await];
    gone.sort_by_key(|change| *change == BlockChange::Removed(block(first)));
    assert_eq!(gone, [first + 1, first].map(|number| BlockChange::Removed(block(number))));
    assert_eq!(following.next().await, BlockChange::Stored(block(first + 3)));
    assert_eq!((following.snapshot().lost, following.snapshot().resident), (1, 1));
}

#[tokio::test]
async fn an_engine_that_begins_anew_holds_nothing_of_before() {
    let mut engine = Engine::start("tcp://127.0.0.1:0").await;
    let mut following = Following::start(&engine.address, None);
    let first = following.join(&mut engine, 7).await;
    // Behind some proxy that keeps the connection, say.
    engine.publish(0).await;
    assert_eq!(following.next().await, BlockChange::Removed(block(first)));
    assert_eq!(following.next().await, BlockChange::Stored(block(0)));

    let address = engine.address.clone();
    drop(engine);
    assert_eq!(following.next().await, BlockChange::Removed(block(0)), "an engine that is gone holds nothing");
    let mut engine = Engine::start(&address).await;
    following.join(&mut engine, 0).await;
    assert_eq!((following.snapshot().restarts, following.snapshot().connected), (2, true));
}

#[tokio::test]
async fn a_message_that_is_no_batch_is_left_out_and_counted() {
    let mut engine = Engine::start("tcp://127.0.0.1:0").await;
    let mut following = Following::start(&engine.address, None);
    let first = following.join(&mut engine, 0).await;
    engine.socket.send(frames([Bytes::from_static(b"kv@e1"), Bytes::from_static(b"short")])).await.unwrap();
    let [topic, number, _] = batch(first + 1);
    engine.socket.send(frames([topic, number, Bytes::from_static(&[0xc1])])).await.unwrap();
    assert_eq!(following.next().await, BlockChange::Removed(block(first)), "what it said is not known");
    engine.publish(first + 2).await;
    assert_eq!(following.next().await, BlockChange::Stored(block(first + 2)));
    assert_eq!(following.snapshot().malformed, 2);
}
