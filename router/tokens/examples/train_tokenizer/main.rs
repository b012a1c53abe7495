//! Trains the tokenizer of the simulated model and writes it into a folder:
//!
//! ```text
//! cargo run -p weft-tokens --example train_tokenizer -- weft/assets/sim-8b
//! ```
//!
//! The same command writes the same bytes; `tests/shipped.rs` trains again and compares.

mod train;

use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from).context("usage: train_tokenizer FOLDER")?;
    std::fs::write(folder.join("tokenizer.json"), train::tokenizer_json()?).context("write tokenizer.json")?;
    std::fs::write(folder.join("tokenizer_config.json"), train::tokenizer_config_json()?)
        .context("write tokenizer_config.json")
}
