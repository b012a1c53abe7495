//! Block hashes of prompts. The limit is a bare chain of keyed BLAKE3 over the same messages, already laid out in memory:
//! each message begins with the hash before it, so no prompt can use BLAKE3's width. BLAKE3 of all the bytes at once, which
//! can, is shown for context: it is what chaining costs.

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
    let mut chained = messages.clone();
    let chain = effort.rate(|| {
        let mut parent = *BlockHash::ROOT.as_bytes();
        for message in chained.chunks_exact_mut(message_bytes) {
            message[..BlockHash::LEN].copy_from_slice(&parent);
            parent = *blake3::keyed_hash(hasher.seed(), message).as_bytes();
        }
        black_box(parent);
        blocks
    });
    let wide = effort.rate(|| {
        black_box(blake3::keyed_hash(hasher.seed(), black_box(&messages)));
        blocks
    });
    let tokens = |blocks_per_s: f64| blocks_per_s * block.tokens() as f64;
    let prompt_us = |blocks_per_s: f64| blocks as f64 / blocks_per_s * 1e6;
    let bars = vec![
        Bar::value("tokens", tokens(ours), "tokens/s").against(tokens(chain)).at_least(0.8),
        Bar::value("prompt_16k", prompt_us(ours), "us").against(prompt_us(chain)),
        Bar::value("unchained_blake3", tokens(wide), "tokens/s").against(tokens(chain)),
    ];
    Ok(Measured { params: params(json!({"block_tokens": block.get(), "prompt_tokens": PROMPT_TOKENS})), bars })
}
