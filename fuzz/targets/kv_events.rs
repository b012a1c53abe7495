//! What an engine publishes of its KV cache: refused, or followed, in bounded memory, with as many blocks resident as were reported.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use weft_events::{Batch, BlockChange, DeviceBlocks};
use weft_types::{BlockSize, ModelKey};

fuzz_target!(|batches: Vec<&[u8]>| {
    let key = ModelKey {
        model: "m".to_owned(),
        revision: String::new(),
        adapter: String::new(),
        salt: String::new(),
        layout: String::new(),
        block_tokens: BlockSize::new(16).expect("16 is a size of blocks"),
    };
    let mut blocks = DeviceBlocks::new(key, BTreeMap::new());
    let (mut changes, mut resident) = (Vec::new(), BTreeSet::new());
    for bytes in batches {
        let Ok(batch) = Batch::decode(bytes) else { continue };
        for event in batch.events {
            blocks.apply(event, &mut changes);
        }
        for change in changes.drain(..) {
            match change {
                BlockChange::Stored(hash) => assert!(resident.insert(hash), "stored twice"),
                BlockChange::Removed(hash) => assert!(resident.remove(&hash), "removed, and was not there"),
            }
        }
        assert_eq!(resident.len(), blocks.resident());
    }
});
