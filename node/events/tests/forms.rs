//! The forms in which engines publish, as they come over the wire.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use serde::Serialize;
use serde_json::{Value, json};
use weft_events::{Batch, BlockRemoved, BlockStored, EngineEvent, EngineHash, ExtraKey};

fn decode(batch: &impl Serialize) -> Batch {
    Batch::decode(&rmp_serde::to_vec_named(batch).unwrap()).unwrap()
}

fn event(batch: Value) -> EngineEvent {
    let mut events = decode(&batch).events;
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn stored() -> BlockStored {
    BlockStored {
        block_hashes: vec![EngineHash(7), EngineHash(8)],
        parent: Some(EngineHash(6)),
        token_ids: vec![1, 2, 3, 4],
        block_size: 2,
        medium: Some("GPU".to_owned()),
        lora_name: Some("poet".to_owned()),
        ..BlockStored::default()
    }
}

#[test]
fn a_map_with_its_type_as_vllm_publishes_since_0_24() {
    let fields = json!({
        "type": "BlockStored", "block_hashes": [7, 8], "parent_block_hash": 6, "token_ids": [1, 2, 3, 4], "block_size": 2,
        "lora_id": null, "medium": "GPU", "lora_name": "poet", "extra_keys": [["poet", "tenant"], null], "group_idx": 1,
        "kv_cache_spec_kind": "full_attention", "locality": "LOCAL", "of_a_later_release": {"deep": [1, {"er": 2}]},
    });
    let words = [ExtraKey::Word("poet".to_owned()), ExtraKey::Word("tenant".to_owned())];
    let expected = BlockStored {
        extra_keys: vec![words.to_vec(), vec![]],
        group: Some(1),
        spec_kind: Some("full_attention".to_owned()),
        ..stored()
    };
    assert_eq!(event(json!([1.5, [fields], 3])), EngineEvent::BlockStored(expected));
}

#[test]
fn an_array_as_vllm_published_before() {
    let batch = json!([1.5, [["BlockStored", [7, 8], 6, [1, 2, 3, 4], 2, null, "GPU", "poet"]], null]);
    assert_eq!(event(batch), EngineEvent::BlockStored(stored()));
    let shortest = json!([1.5, [["BlockStored", [7, 8], 6, [1, 2, 3, 4], 2]]]);
    assert_eq!(event(shortest), EngineEvent::BlockStored(BlockStored { medium: None, lora_name: None, ..stored() }));
    let removed = BlockRemoved { block_hashes: vec![EngineHash(7)], medium: Some("CPU".to_owned()), group: None };
    assert_eq!(event(json!([1.5, [["BlockRemoved", [7], "CPU", "more"]]])), EngineEvent::BlockRemoved(removed));
    assert_eq!(event(json!([1.5, [["AllBlocksCleared"]]])), EngineEvent::AllBlocksCleared);
}

#[test]
fn sglang_signs_its_hashes_and_has_a_field_for_the_salt() {
    let fields = json!({
        "type": "BlockStored", "block_hashes": [-1], "parent_block_hash": null, "token_ids": [1], "block_size": 1,
        "cache_salt": "tenant",
    });
    let EngineEvent::BlockStored(found) = event(json!([1.5, [fields], null])) else { panic!() };
    assert_eq!((found.block_hashes, found.parent), (vec![EngineHash(u64::MAX.into())], None));
    assert_eq!(found.cache_salt.as_deref(), Some("tenant"));
}

#[test]
fn extra_keys_with_and_without_their_kind() {
    let keys = json!([[["lora", "poet", "/poet"], ["cache_salt", "s"], ["mm", "image", 3]], [["image", 12]]]);
    let fields = json!({
        "type": "BlockStored", "block_hashes": [], "token_ids": [], "block_size": 1, "extra_keys": keys,
    });
    let EngineEvent::BlockStored(found) = event(json!([1.5, [fields]])) else { panic!() };
    let image = ExtraKey::Content(b"image".to_vec());
    let first = vec![ExtraKey::Lora, ExtraKey::Salt("s".to_owned()), image.clone()];
    assert_eq!(found.extra_keys, [first, vec![image]]);
}

#[test]
fn a_hash_in_bytes_is_known_by_its_first_sixteen() {
    // [0.0, [{"type": "BlockRemoved", "block_hashes": [32 bytes]}]]
    let mut bytes = hex::decode("92ca00000000").unwrap();
    bytes.extend(hex::decode("9182a474797065ac").unwrap());
    bytes.extend(b"BlockRemoved");
    bytes.extend([0xac]);
    bytes.extend(b"block_hashes");
    bytes.extend(hex::decode("91c420").unwrap());
    bytes.extend((0..32_u8).collect::<Vec<_>>());
    let batch = Batch::decode(&bytes).unwrap();
    let hash = EngineHash(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    let removed = BlockRemoved { block_hashes: vec![hash], medium: None, group: None };
    assert_eq!(batch.events, [EngineEvent::BlockRemoved(removed)]);
}

#[test]
fn what_is_not_known_is_named_and_what_is_no_batch_is_refused() {
    let batch = decode(&json!([1.5, [{"type": "BlockMoved", "to": "moon"}, {"type": "AllBlocksCleared"}], 2, "later"]));
    assert_eq!(batch.events, [EngineEvent::Unknown("BlockMoved".to_owned()), EngineEvent::AllBlocksCleared]);
    assert_eq!(batch.rank, Some(2));
    for bad in [json!({}), json!([1.5]), json!([1.5, [{"block_hashes": []}]]), json!([1.5, [[]]]), json!("text")] {
        let error = Batch::decode(&rmp_serde::to_vec(&bad).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("not a batch of KV-cache events"), "{error}");
    }
    Batch::decode(&[]).unwrap_err();
}
