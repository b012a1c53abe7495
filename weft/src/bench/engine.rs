//! An engine as a bench plays it: what it attaches with.

use std::path::Path;
use std::time::Duration;

use weft_node_client::AttachConfig;
use weft_types::{BlockSize, Contract, Incarnation, ModelKey, Part};

/// Of one rank, with blocks of so many bytes, at the node whose folder this is.
pub(crate) fn attach_config(folder: &Path, block_bytes: usize, deadline: Duration) -> anyhow::Result<AttachConfig> {
    Ok(AttachConfig {
        socket: folder.join("socket/node.sock"),
        endpoint: "bench".parse()?,
        url: "http://127.0.0.1:1".to_owned(),
        incarnation: Incarnation::new(1),
        contract: contract(block_bytes),
        deadline,
    })
}

/// Of one rank, with blocks of so many bytes.
pub(crate) fn contract(block_bytes: usize) -> Contract {
    let model_key = ModelKey {
        model: "bench".to_owned(),
        revision: String::new(),
        adapter: String::new(),
        salt: String::new(),
        layout: format!("bench:{block_bytes}"),
        block_tokens: BlockSize::DEFAULT,
    };
    Contract {
        model_key,
        parts: vec![Part { bytes: block_bytes as u64, ranks: vec![0] }],
        aliases: Vec::new(),
        tokenizer: String::new(),
        chat_template: String::new(),
    }
}
