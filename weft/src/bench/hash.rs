//! Block hashes of prompts. The limit is BLAKE3 itself over the same messages, already laid out in memory: what the chain
//! adds is laying them out. The messages of one prompt depend on each other, so no prompt can use BLAKE3's width.

use std::hint::black_box;

use serde_json::json;
use weft_types::{BlockHash, BlockHasher, BlockSize, ModelKey};

use super::form::Bar;
use super::measure::Effort;
use super::{Measured, params};

/// Tokens of the prompt: a long chat.
const PROMPT_TOKENS: u32 = 16_384;

pub(crate) fn measure(effort: Effort) -> anyhow::Result<Measured> {
    let block = BlockSize::DEFAULT;
    let key = ModelKey {
        model: "bench".to_owned(),
        revision: String::new(),
        adapter: String::new(),
        salt: String::new(),
        layout: String::new(),
        block_tokens: block,
    };
    let hasher = BlockHasher::new(&key);
    let prompt: Vec<u32> = (0..PROMPT_TOKENS).collect();
    let blocks = prompt.len() / block.tokens();
    let message_bytes = BlockHash::LEN + 4 * block.tokens();

    let ours = effort.rate(|| {
        black_box(hasher.prefix(black_box(&prompt)));
        blocks
    });
    let messages: Vec<u8> = (0..blocks * message_bytes).map(|byte| (byte % 251) as u8).collect();
    let raw = effort.rate(|| {
        for message in messages.chunks_exact(message_bytes) {
            black_box(blake3::keyed_hash(hasher.seed(), black_box(message)));
        }
        blocks
    });
    let tokens_per_block = block.tokens() as f64;
    let bars = vec![
        Bar::value("tokens", ours * tokens_per_block, "tokens/s").against(raw * tokens_per_block).at_least(0.8),
        Bar::value("prompt_16k", blocks as f64 / ours * 1e6, "us").against(blocks as f64 / raw * 1e6),
    ];
    Ok(Measured { params: params(json!({"block_tokens": block.get(), "prompt_tokens": PROMPT_TOKENS})), bars })
}
