//! Weft blocks that come and go with the engine blocks that they are made of.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage must fail")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weft_events::{BlockChange, BlockRemoved, BlockStored, DeviceBlocks, EngineEvent, EngineHash, ExtraKey, LeftOut};
use weft_types::{BlockHash, BlockHasher, BlockSize, ModelKey};

const WEFT: u32 = 8;
const ENGINE: usize = 2;

fn key(salt: &str, adapter: &str) -> ModelKey {
    ModelKey {
        model: "m".to_owned(),
        revision: "r".to_owned(),
        adapter: adapter.to_owned(),
        salt: salt.to_owned(),
        layout: "l".to_owned(),
        block_tokens: BlockSize::new(WEFT).unwrap(),
    }
}

fn blocks() -> DeviceBlocks {
    DeviceBlocks::new(key("", ""), [("poet".to_owned(), "digest".to_owned())].into())
}

fn hashes(salt: &str, adapter: &str, tokens: &[u32]) -> Vec<BlockHash> {
    BlockHasher::new(&key(salt, adapter)).prefix(tokens)
}

/// What an engine would say that stores blocks `from` to the end of a prompt; its names are made of all tokens up to there.
fn stored(tokens: &[u32], from: usize) -> BlockStored {
    let name = |end: usize| {
        let prefix = &tokens[..end];
        EngineHash(prefix.iter().fold(1_u128, |hash, token| hash.wrapping_mul(1_000_003) ^ u128::from(*token)))
    };
    let count = tokens.len() / ENGINE;
    BlockStored {
        block_hashes: (from..count).map(|block| name((block + 1) * ENGINE)).collect(),
        parent: (from > 0).then(|| name(from * ENGINE)),
        token_ids: tokens[from * ENGINE..count * ENGINE].to_vec(),
        block_size: 2,
        ..BlockStored::default()
    }
}

fn apply(blocks: &mut DeviceBlocks, event: EngineEvent) -> Vec<BlockChange> {
    let mut changes = Vec::new();
    blocks.apply(event, &mut changes);
    changes
}

fn removed(names: &[EngineHash]) -> EngineEvent {
    EngineEvent::BlockRemoved(BlockRemoved { block_hashes: names.to_vec(), ..BlockRemoved::default() })
}

const TOKENS: [u32; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

#[test]
fn a_block_comes_with_its_last_part_and_goes_with_its_first() {
    let mut device = blocks();
    let whole = hashes("", "", &TOKENS);
    let first = stored(&TOKENS[..6], 0);
    assert_eq!(apply(&mut device, EngineEvent::BlockStored(first.clone())), []);
    let rest = stored(&TOKENS, 3);
    let came = apply(&mut device, EngineEvent::BlockStored(rest.clone()));
    assert_eq!(came, [BlockChange::Stored(whole[0]), BlockChange::Stored(whole[1])]);

    assert_eq!(apply(&mut device, removed(&[first.block_hashes[1]])), [BlockChange::Removed(whole[0])]);
    assert_eq!(apply(&mut device, removed(&[first.block_hashes[2]])), []);
    // Both again: the second makes it whole.
    let again = BlockStored { parent: Some(first.block_hashes[0]), ..stored(&TOKENS[..6], 1) };
    assert_eq!(apply(&mut device, EngineEvent::BlockStored(again)), [BlockChange::Stored(whole[0])]);
    assert_eq!(apply(&mut device, EngineEvent::AllBlocksCleared).len(), 2);
    assert_eq!(device.resident(), 0);
}

#[test]
fn a_block_stored_twice_is_there_until_it_was_removed_twice() {
    let mut device = blocks();
    let event = stored(&TOKENS[..8], 0);
    assert_eq!(apply(&mut device, EngineEvent::BlockStored(event.clone())).len(), 1);
    assert_eq!(apply(&mut device, EngineEvent::BlockStored(event.clone())), []);
    assert_eq!(apply(&mut device, removed(&event.block_hashes)), []);
    assert_eq!(apply(&mut device, removed(&event.block_hashes)).len(), 1);
    assert_eq!(apply(&mut device, removed(&event.block_hashes)), [], "it is gone already");
}

#[test]
fn salt_adapter_and_images_are_part_of_the_hash() {
    let mut device = blocks();
    let mut first = |event: BlockStored| apply(&mut device, EngineEvent::BlockStored(event)).first().copied();
    let named = |hash: u128| vec![EngineHash(hash), EngineHash(hash + 1), EngineHash(hash + 2), EngineHash(hash + 3)];
    let plain = stored(&TOKENS[..8], 0);
    let word = |word: &str| ExtraKey::Word(word.to_owned());

    let salted = BlockStored { block_hashes: named(10), extra_keys: vec![vec![word("s")]], ..plain.clone() };
    assert_eq!(first(salted), Some(BlockChange::Stored(hashes("s", "", &TOKENS)[0])));
    let salted = BlockStored { block_hashes: named(20), cache_salt: Some("t".to_owned()), ..plain.clone() };
    assert_eq!(first(salted), Some(BlockChange::Stored(hashes("t", "", &TOKENS)[0])));
    let keys = vec![vec![word("poet"), word("s")], vec![word("poet")]];
    let adapted =
        BlockStored { block_hashes: named(30), lora_name: Some("poet".to_owned()), extra_keys: keys, ..plain.clone() };
    assert_eq!(first(adapted), Some(BlockChange::Stored(hashes("s", "digest", &TOKENS)[0])));
    let image = vec![vec![], vec![ExtraKey::Content(b"image".to_vec())]];
    let seen = BlockStored { block_hashes: named(40), extra_keys: image, ..plain.clone() };
    let hasher = BlockHasher::new(&key("", ""));
    let with_image = hasher.block(&BlockHash::ROOT, &TOKENS[..8], &[b"image".to_vec()]);
    assert_eq!(first(seen), Some(BlockChange::Stored(with_image)));
    let unknown = BlockStored { block_hashes: named(50), lora_name: Some("critic".to_owned()), ..plain };
    assert_eq!(first(unknown), None);
    assert_eq!(device.left_out().unknown_adapters, 4);
}

#[test]
fn what_does_not_fit_is_left_out_and_counted() {
    let mut device = blocks();
    let orphan = EngineEvent::BlockStored(stored(&TOKENS, 3));
    let misfit = EngineEvent::BlockStored(BlockStored { block_size: 3, ..stored(&TOKENS[..6], 0) });
    let short = EngineEvent::BlockStored(BlockStored { token_ids: vec![1], ..stored(&TOKENS[..6], 0) });
    let elsewhere = BlockStored { medium: Some("CPU".to_owned()), ..stored(&TOKENS, 0) };
    let window = BlockStored { spec_kind: Some("sliding_window".to_owned()), ..stored(&TOKENS, 0) };
    let elsewhere = [elsewhere, window].map(EngineEvent::BlockStored);
    for event in [orphan, misfit, short, EngineEvent::Unknown("BlockMoved".to_owned())].into_iter().chain(elsewhere) {
        assert_eq!(apply(&mut device, event), []);
    }
    assert_eq!(device.left_out(), LeftOut { orphans: 7, misfits: 6, ..LeftOut::default() });
}

/// A step of a history over a tree of prompts.
#[derive(Clone, Debug)]
enum Step {
    /// Stores what is not resident of a prompt's front.
    Store {
        prompt: Vec<u32>,
        blocks: usize,
    },
    /// Removes the resident engine block of this number.
    Remove(prop::sample::Index),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    // Few tokens, so that prompts share fronts.
    let prompt = prop::collection::vec(0_u32..2, 24);
    prop_oneof![
        6 => (prompt, 1_usize..=12).prop_map(|(prompt, blocks)| Step::Store { prompt, blocks }),
        8 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn residency_is_that_of_all_parts(steps in prop::collection::vec(step(), 1..60)) {
        let mut device = blocks();
        // Engine block → the prompt up to its end.
        let mut model: BTreeMap<EngineHash, Vec<u32>> = BTreeMap::new();
        let mut told: BTreeSet<BlockHash> = BTreeSet::new();
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Store { prompt, blocks } => {
                    // As an engine does: what is resident of the front is used, all after it is computed.
                    let all = stored(&prompt[..blocks * ENGINE], 0);
                    let have = all.block_hashes.iter().take_while(|hash| model.contains_key(hash)).count();
                    let missing = (have..blocks).filter(|block| !model.contains_key(&all.block_hashes[*block]));
                    let missing: Vec<usize> = missing.collect();
                    for block in missing {
                        let front = &prompt[..(block + 1) * ENGINE];
                        device.apply(EngineEvent::BlockStored(stored(front, block)), &mut changes);
                        model.insert(all.block_hashes[block], front.to_vec());
                    }
                }
                Step::Remove(which) if !model.is_empty() => {
                    let hash = *which.get(&model.keys().copied().collect::<Vec<_>>());
                    model.remove(&hash);
                    device.apply(removed(&[hash]), &mut changes);
                }
                Step::Remove(_) => {}
                Step::Clear => {
                    model.clear();
                    device.apply(EngineEvent::AllBlocksCleared, &mut changes);
                }
            }
            for change in changes {
                match change {
                    BlockChange::Stored(hash) => prop_assert!(told.insert(hash), "stored twice"),
                    BlockChange::Removed(hash) => prop_assert!(told.remove(&hash), "removed twice"),
                }
            }
            let fronts: BTreeSet<&Vec<u32>> = model.values().collect();
            let whole = fronts.iter().filter(|front| front.len().is_multiple_of(WEFT as usize)).filter(|front| {
                let parts = front.len() - WEFT as usize..front.len();
                parts.step_by(ENGINE).all(|begin| fronts.contains(&front[..begin + ENGINE].to_vec()))
            });
            let expected: BTreeSet<BlockHash> = whole.map(|front| *hashes("", "", front).last().unwrap()).collect();
            prop_assert_eq!(&told, &expected);
            prop_assert_eq!(device.resident(), expected.len());
        }
    }
}
