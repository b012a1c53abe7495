//! Bytes of the engine socket's messages: hex on the left, meaning on the right. A change here is a change of protocol.

#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use weft_attach::{
    AttachmentId, CacheShared, Commit, CommitSlot, Committed, Detach, DeviceChanged, Draining, Geometry, Hello, Load,
    LoadPages, Loaded, LoadedSlot, PagesLoaded, PagesStored, Refused, Release, Reserve, Reserved, ReservedBlock,
    SharedCache, SlotIndex, SlotRef, Source, StorePages, ToEngine, ToNode, Touch, Welcome,
};
use weft_types::{BlockHash, BlockSize, Checksum, Contract, Incarnation, ModelKey, Part};

fn hash(byte: u8) -> BlockHash {
    BlockHash::from_bytes([byte; 32])
}

fn slot(slot: u32, generation: u32) -> SlotRef {
    SlotRef { slot: SlotIndex(slot), generation }
}

/// Joins the hex digits in front of each comment.
fn bytes(golden: &str) -> Vec<u8> {
    let digits = golden.lines().map(|line| line.split("--").next().unwrap_or_default());
    hex::decode(digits.flat_map(|line| line.chars().filter(char::is_ascii_hexdigit)).collect::<String>()).unwrap()
}

fn to_node(message: &ToNode, kind: u16, golden: &str) {
    let (encoded_kind, encoded) = message.encode();
    assert_eq!((encoded_kind as u16, hex::encode(&encoded)), (kind, hex::encode(bytes(golden))), "{message:?}");
    assert_eq!(ToNode::decode(kind, &encoded).unwrap().as_ref(), Some(message));
}

fn to_engine(message: &ToEngine, kind: u16, golden: &str) {
    let (encoded_kind, encoded) = message.encode();
    assert_eq!((encoded_kind as u16, hex::encode(&encoded)), (kind, hex::encode(bytes(golden))), "{message:?}");
    assert_eq!(ToEngine::decode(kind, &encoded).unwrap().as_ref(), Some(message));
}

#[test]
fn handshake() {
    let model_key = ModelKey {
        model: "m".into(),
        revision: "r".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "l".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let hello = Hello {
        version: 1,
        endpoint: "e1".parse().unwrap(),
        incarnation: Incarnation::new(3),
        url: "http://h".into(),
        contract: Contract {
            model_key,
            parts: vec![Part { bytes: 1000, ranks: vec![0] }],
            aliases: vec!["a".into()],
            tokenizer: String::new(),
            chat_template: String::new(),
        },
        surrendered: vec![AttachmentId(9)],
    };
    to_node(
        &ToNode::Hello(Box::new(hello)),
        1,
        "01                  -- version
         02 6531             -- endpoint 'e1'
         03                  -- incarnation
         08 687474703a2f2f68 -- url 'http://h'
         01 6d  01 72  00  00  01 6c  40  -- model key: model, revision, adapter, salt, layout, 64 tokens
         01 fbe803 01 00     -- one part of 1000 bytes, read and written by rank 0
         01 01 61            -- one alias, 'a'
         00 00               -- digests unknown
         01 09               -- surrendered: attachment 9",
    );
    let geometry = Geometry { block_bytes: 1000, slot_bytes: 4096, slots: 512 };
    let welcome = Welcome {
        version: 1,
        node: "n".parse().unwrap(),
        incarnation: Incarnation::new(2),
        attachment: AttachmentId(4),
        geometry,
    };
    to_engine(
        &ToEngine::Welcome(welcome),
        2,
        "01                   -- version
         01 6e                -- node 'n'
         02                   -- incarnation
         04                   -- attachment
         fbe803 fb0010 fb0002 -- block bytes, slot bytes, slots",
    );
    to_engine(&ToEngine::Refused(Refused { reason: "no".into(), retry: true }), 3, "02 6e6f -- reason\n 01 -- retry");
    to_node(&ToNode::Detach(Detach {}), 13, "");
    to_engine(&ToEngine::Detach(Detach {}), 13, "");
    to_engine(&ToEngine::Draining(Draining {}), 14, "");
}

#[test]
fn stores() {
    let hashes = format!("40 {} {} -- 64 bytes: two hashes", "11".repeat(32), "22".repeat(32));
    to_node(&ToNode::Reserve(Reserve { blocks: vec![hash(0x11), hash(0x22)] }), 4, &hashes);
    let blocks = vec![ReservedBlock::Slot(slot(5, 300)), ReservedBlock::Present, ReservedBlock::Full];
    to_engine(
        &ToEngine::Reserved(Reserved { blocks }),
        5,
        "03 -- three answers
         00 05 fb2c01 -- slot 5, generation 300
         01 -- present
         02 -- full",
    );
    let slots = vec![
        CommitSlot { slot: slot(5, 300), checksum: Some(Checksum::from_u64(0x0102_0304_0506_0708)) },
        CommitSlot { slot: slot(6, 1), checksum: None },
    ];
    to_node(
        &ToNode::Commit(Commit { slots }),
        6,
        "02 -- two slots
         05 fb2c01 01 fd0807060504030201 -- slot, generation, checksum
         06 01 00                        -- given up",
    );
    to_engine(&ToEngine::Committed(Committed { blocks: 1 }), 7, "01 -- blocks");
}

#[test]
fn loads() {
    let one = format!("20 {} -- one hash", "11".repeat(32));
    to_node(
        &ToNode::Load(Load { blocks: vec![hash(0x11)], deadline_us: 250 }),
        8,
        &format!("{one}\n fa -- microseconds"),
    );
    let sources = [Source::Host, Source::Disk, Source::Object, Source::Peer];
    let blocks = sources.into_iter().map(|source| LoadedSlot { slot: slot(1, 2), source }).collect();
    to_engine(
        &ToEngine::Loaded(Loaded { blocks }),
        9,
        "04 -- four blocks: slot, generation, source
         010200 010201 010202 010203",
    );
    to_node(&ToNode::Release(Release { slots: vec![slot(1, 2)] }), 10, "01 01 02 -- one pin: slot, generation");
    to_node(&ToNode::Touch(Touch { blocks: vec![hash(0x11)] }), 11, &one);
    let changed = DeviceChanged { reset: true, removed: vec![], stored: vec![hash(0x11)] };
    to_node(&ToNode::DeviceChanged(changed), 12, &format!("01 -- reset\n 00 -- removed\n {one}"));
}

#[test]
fn pages_of_a_gpu() {
    let shared = SharedCache {
        device: [0xab; 16],
        ready: vec![1, 2],
        allocations: vec![vec![3], vec![4, 5]],
        layers: vec![(0, 0), (1, 300)],
        page_stride: 8192,
        page_bytes: 5000,
        block_pages: 4,
        pages: 9,
    };
    to_node(
        &ToNode::ShareCache(Box::new(shared)),
        15,
        &format!(
            "{} -- device
             02 0102           -- handle of the event
             02 01 03 02 0405  -- two allocations, handles
             02 0000 01 fb2c01 -- two layers: allocation, offset
             fb0020 fb8813     -- from page to page, bytes of a page
             04 09             -- pages of a block, pages",
            "ab".repeat(16)
        ),
    );
    let refused = CacheShared { refused: Some("no".into()) };
    to_engine(&ToEngine::CacheShared(refused), 16, "01 02 6e6f -- reason");
    let one = format!("20 {} -- one hash", "11".repeat(32));
    let store = StorePages { blocks: vec![hash(0x11)], pages: vec![7, 8] };
    to_node(&ToNode::StorePages(store), 17, &format!("{one}\n 02 07 08 -- pages"));
    to_engine(&ToEngine::PagesStored(PagesStored { stored: 1, present: 2 }), 18, "01 02 -- stored, present");
    let load = LoadPages { blocks: vec![hash(0x11)], skip: 1, pages: vec![7, 8] };
    to_node(&ToNode::LoadPages(load), 19, &format!("{one}\n 01 -- skipped\n 02 07 08 -- pages"));
    to_engine(&ToEngine::PagesLoaded(PagesLoaded { pages: 2 }), 20, "02 -- pages");
}

#[test]
fn a_kind_from_the_future_is_told_apart_from_rubbish() {
    assert!(ToNode::decode(999, &[]).unwrap().is_none());
    assert!(ToEngine::decode(4, &[]).unwrap().is_none(), "an engine expects no Reserve");
    assert!(ToNode::decode(4, &[33, 1]).is_err());
    let mut odd = vec![31];
    odd.extend_from_slice(&[0; 31]);
    assert!(ToNode::decode(4, &odd).is_err(), "31 bytes are no list of hashes");
}

proptest::proptest! {
    #[test]
    fn rubbish_never_panics(kind in 0u16..24, bytes: Vec<u8>) {
        let _ = ToNode::decode(kind, &bytes);
        let _ = ToEngine::decode(kind, &bytes);
    }

    #[test]
    fn lists_of_blocks_come_back(seeds: Vec<u8>) {
        let message = ToNode::Touch(Touch { blocks: seeds.into_iter().map(hash).collect() });
        let (kind, bytes) = message.encode();
        proptest::prop_assert_eq!(ToNode::decode(kind as u16, &bytes).unwrap(), Some(message));
    }
}
