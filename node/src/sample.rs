//! What tests of several files begin with.

use weft_types::{BlockSize, Contract, ModelKey, Part};

/// A contract with blocks of one part.
pub(crate) fn contract(block_bytes: u64) -> Contract {
    let model_key = ModelKey {
        model: "m".into(),
        revision: "1".into(),
        adapter: String::new(),
        salt: String::new(),
        layout: "l".into(),
        block_tokens: BlockSize::DEFAULT,
    };
    let parts = vec![Part { bytes: block_bytes, ranks: vec![0] }];
    Contract { model_key, parts, aliases: Vec::new(), tokenizer: String::new(), chat_template: String::new() }
}
