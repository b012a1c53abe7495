//! Every golden vector of *weft block hash v1*.

use serde::Deserialize;
use std::collections::BTreeMap;
use weft_types::{BlockHasher, ExtraKeys, ModelKey};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    model_key: ModelKey,
    tokens: Vec<u32>,
    extra: BTreeMap<String, Vec<String>>,
    canonical_bytes: String,
    seed: String,
    block_hashes: Vec<String>,
}

#[test]
fn every_vector_is_reproduced() {
    let vectors: Vectors = serde_json::from_str(include_str!("data/block_hash.json")).unwrap();
    assert!(vectors.cases.len() >= 10);
    for case in vectors.cases {
        let hasher = BlockHasher::new(&case.model_key);
        let extra: ExtraKeys = case
            .extra
            .iter()
            .map(|(block, keys)| (block.parse().unwrap(), keys.iter().map(|key| hex::decode(key).unwrap()).collect()))
            .collect();
        let hashes: Vec<String> = hasher.prefix_with(&case.tokens, &extra).iter().map(ToString::to_string).collect();
        assert_eq!(hex::encode(case.model_key.canonical()), case.canonical_bytes, "{}", case.name);
        assert_eq!(hex::encode(hasher.seed()), case.seed, "{}", case.name);
        assert_eq!(hashes, case.block_hashes, "{}", case.name);
    }
}

proptest::proptest! {
    #[test]
    fn a_chain_that_grows_hashes_as_the_whole_prompt(tokens: Vec<u32>, cuts: Vec<u8>) {
        let key = ModelKey {
            model: "m".into(), revision: String::new(), adapter: String::new(), salt: String::new(),
            layout: String::new(), block_tokens: weft_types::BlockSize::new(4).unwrap(),
        };
        let hasher = BlockHasher::new(&key);
        let mut chain = hasher.chain();
        let mut rest = tokens.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(usize::from(cut).min(rest.len()));
            chain.extend(head);
            rest = tail;
        }
        chain.extend(rest);
        proptest::prop_assert_eq!(chain.hashes(), hasher.prefix_with(&tokens, &ExtraKeys::new()));
    }
}
