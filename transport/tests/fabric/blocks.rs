//! Block streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use weft_service::certs::Ca;
use weft_transport::{
    BlockBytes, BlockRefusal, BlockSink, BlockSource, CallError, FetchError, FetchRequest, FetchSummary, Profile,
    RefusalCode, Routes,
};
use weft_types::{BlockHash, Checksum, Role};

use crate::world::{Peer, SOON, bind, identity, soon};

/// Blocks in memory.
#[derive(Default)]
pub(crate) struct Shelf(HashMap<BlockHash, BlockBytes>);

pub(crate) fn hash(number: u32) -> BlockHash {
    let mut bytes = [0; BlockHash::LEN];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    BlockHash::from_bytes(bytes)
}

/// Bytes that differ from block to block and from place to place.
pub(crate) fn body(number: u32, len: usize) -> Bytes {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(number).to_le_bytes()[3]).collect()
}

impl Shelf {
    pub(crate) fn of(blocks: u32, len: usize) -> Self {
        let mut shelf = Self::default();
        for number in 0..blocks {
            shelf.put(number, body(number, len));
        }
        shelf
    }

    pub(crate) fn put(&mut self, number: u32, bytes: Bytes) {
        let checksum = Checksum::of(&bytes);
        self.0.insert(hash(number), BlockBytes { bytes, checksum });
    }
}

impl BlockSource for Shelf {
    fn read(&self, _peer: &weft_transport::Peer, block: &BlockHash, _bytes: u64) -> Result<BlockBytes, BlockRefusal> {
        self.0.get(block).cloned().ok_or(BlockRefusal::Gone)
    }
}

/// What a fetch handed over.
#[derive(Default)]
pub(crate) struct Basket {
    arriving: HashMap<usize, Vec<u8>>,
    pub(crate) complete: HashMap<usize, Vec<u8>>,
    pub(crate) refused: HashMap<usize, BlockRefusal>,
    /// Told of each complete block.
    progress: Option<Arc<Notify>>,
}

impl Basket {
    /// One that tells of each complete block.
    pub(crate) fn telling(progress: &Arc<Notify>) -> Self {
        Self { progress: Some(Arc::clone(progress)), ..Self::default() }
    }
}

impl BlockSink for Basket {
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]) {
        let block = self.arriving.entry(index).or_default();
        assert_eq!(block.len() as u64, offset, "chunks come in order");
        block.extend_from_slice(bytes);
    }

    fn complete(&mut self, index: usize, checksum: Checksum) {
        let bytes = self.arriving.remove(&index).unwrap();
        assert_eq!(Checksum::of(&bytes), checksum);
        self.complete.insert(index, bytes);
        if let Some(progress) = &self.progress {
            progress.notify_one();
        }
    }

    fn refused(&mut self, index: usize, refusal: BlockRefusal) {
        self.arriving.remove(&index);
        self.refused.insert(index, refusal);
    }
}

pub(crate) fn request(numbers: impl IntoIterator<Item = u32>, block_bytes: usize) -> FetchRequest {
    FetchRequest { blocks: numbers.into_iter().map(hash).collect(), block_bytes: block_bytes as u64 }
}

fn pair(shelf: Shelf) -> (Peer, Peer) {
    pair_of(Routes::new().blocks(&[Role::Node], Arc::new(shelf)), Profile::Bulk)
}

fn pair_of(routes: Routes, tuning: impl Into<weft_transport::Tuning>) -> (Peer, Peer) {
    let ca = Ca::create("test").unwrap();
    let server = bind(&identity(&ca, Role::Node, "n1"), Profile::Bulk);
    server.fabric.serve(routes);
    (server, bind(&identity(&ca, Role::Node, "n2"), tuning))
}

#[tokio::test]
async fn blocks_of_odd_sizes_arrive_as_they_were() {
    for len in [1, 31, 32, 8_951, 8_952, 65_537, 2_097_153] {
        let (server, client) = pair(Shelf::of(5, len));
        let mut basket = Basket::default();
        let summary =
            client.fabric.fetch(&server.target(), request([4, 0, 9, 2], len), &mut basket, SOON).await.unwrap();
        assert_eq!(summary, FetchSummary { blocks: 3, bytes: 3 * len as u64 });
        let expected =
            HashMap::from([(0, body(4, len).to_vec()), (1, body(0, len).to_vec()), (3, body(2, len).to_vec())]);
        assert!(basket.complete == expected, "{len} bytes");
        assert_eq!(basket.refused, HashMap::from([(2, BlockRefusal::Gone)]));
    }
}

#[tokio::test]
async fn a_checksum_that_lies_is_caught_and_the_rest_still_comes() {
    let mut shelf = Shelf::of(3, 10_000);
    let lied = shelf.0.get_mut(&hash(1)).unwrap();
    lied.checksum = Checksum::from_u64(lied.checksum.get() ^ 1);
    let (server, client) = pair(shelf);
    let mut basket = Basket::default();
    let summary = client.fabric.fetch(&server.target(), request(0..3, 10_000), &mut basket, SOON).await.unwrap();
    assert_eq!(summary.blocks, 2);
    assert_eq!(basket.refused, HashMap::from([(1, BlockRefusal::Corrupt)]));
    assert_eq!(basket.complete[&2], body(2, 10_000));
}

#[tokio::test]
async fn a_source_with_other_sizes_declines_and_goes_on() {
    let mut shelf = Shelf::of(2, 10_000);
    shelf.put(1, body(1, 9_999));
    let (server, client) = pair(shelf);
    let mut basket = Basket::default();
    let summary = client.fabric.fetch(&server.target(), request([1, 0], 10_000), &mut basket, SOON).await.unwrap();
    assert_eq!(summary.blocks, 1);
    assert_eq!(basket.refused, HashMap::from([(0, BlockRefusal::WrongLayout)]));
}

#[tokio::test]
async fn fetches_at_the_same_time_share_a_connection() {
    const LEN: usize = 300_000;
    let (server, client) = pair(Shelf::of(32, LEN));
    let fetches: Vec<_> = (0..8)
        .map(|first| {
            let (fabric, to) = (client.fabric.clone(), server.target());
            tokio::spawn(async move {
                let mut basket = Basket::default();
                fabric.fetch(&to, request(first * 4..first * 4 + 4, LEN), &mut basket, SOON).await.unwrap();
                basket.complete
            })
        })
        .collect();
    for (first, fetch) in (0..).zip(fetches) {
        let complete = fetch.await.unwrap();
        for index in 0..4 {
            assert!(complete[&(index as usize)] == body(first * 4 + index, LEN), "block {}", first * 4 + index);
        }
    }
    assert_eq!(client.count("weft_transport_dials_total", &[]), 1);
}

#[tokio::test]
async fn the_smaller_datagram_of_two_ends_is_used() {
    const LEN: usize = 1 << 20;
    let routes = Routes::new().blocks(&[Role::Node], Arc::new(Shelf::of(4, LEN)));
    let (server, client) = pair_of(routes, Profile::Bulk.with_datagram_bytes(1452));
    let mut basket = Basket::default();
    let summary = client.fabric.fetch(&server.target(), request(0..4, LEN), &mut basket, SOON).await.unwrap();
    assert_eq!(summary.blocks, 4);
}

/// Gives the first block, and the others never.
struct Stuck(Shelf, Arc<Notify>);

impl BlockSource for Stuck {
    fn read(&self, peer: &weft_transport::Peer, block: &BlockHash, bytes: u64) -> Result<BlockBytes, BlockRefusal> {
        if *block != hash(0) {
            self.1.notify_one();
            std::thread::park();
        }
        self.0.read(peer, block, bytes)
    }
}

#[test]
fn past_the_deadline_what_was_complete_stays() {
    let (ca, reached) = (Ca::create("test").unwrap(), Arc::new(Notify::new()));
    let source = Arc::new(Stuck(Shelf::of(2, 50_000), Arc::clone(&reached)));
    // Two threads: one is stuck in the source, the other still moves packets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let server = {
        let _inside = runtime.enter();
        let server = bind(&identity(&ca, Role::Node, "n1"), Profile::Bulk);
        server.fabric.serve(Routes::new().blocks(&[Role::Node], source));
        server
    };
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    caller.block_on(async {
        let client = bind(&identity(&ca, Role::Node, "n2"), Profile::Bulk);
        let mut basket = Basket::default();
        client.fabric.fetch(&server.target(), request([0], 50_000), &mut basket, SOON).await.unwrap();
        let (mut basket, deadline) = (Basket::default(), Duration::from_secs(1));
        let outcome = client.fabric.fetch(&server.target(), request(0..2, 50_000), &mut basket, deadline).await;
        assert!(matches!(outcome, Err(FetchError::Call(CallError::Deadline { .. }))), "{outcome:?}");
        assert_eq!(basket.complete[&0], body(0, 50_000));
        assert_eq!(basket.complete.len(), 1);
        soon(reached.notified()).await;
    });
    runtime.shutdown_background();
}

#[tokio::test]
async fn who_may_not_fetch_or_asks_too_much_is_told() {
    let routes = Routes::new().blocks(&[Role::Router], Arc::new(Shelf::of(1, 10)));
    let (server, client) = pair_of(routes, Profile::Bulk);
    let mut basket = Basket::default();
    let outcome = client.fabric.fetch(&server.target(), request([0], 10), &mut basket, SOON).await;
    let Err(FetchError::Call(CallError::Refused { refusal, .. })) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal.code, RefusalCode::Forbidden);

    let outcome = client.fabric.fetch(&server.target(), request([], 10), &mut basket, SOON).await;
    assert!(matches!(outcome, Err(FetchError::Request(_))), "{outcome:?}");

    let (server, client) = pair_of(Routes::new(), Profile::Bulk);
    let outcome = client.fabric.fetch(&server.target(), request([0], 10), &mut basket, SOON).await;
    let Err(FetchError::Call(CallError::Refused { refusal, .. })) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal.code, RefusalCode::UnknownMethod);
}
