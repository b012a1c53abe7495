//! A request's prompt, through template and tokenizer: refused, or tokens, and the same ones each time.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weft_tokens::ModelFiles;

static FILES: LazyLock<ModelFiles> = LazyLock::new(|| {
    let tokenizer = include_str!("../../weft/assets/sim-8b/tokenizer.json");
    let config = include_str!("../../weft/assets/sim-8b/tokenizer_config.json");
    ModelFiles::from_parts(tokenizer, config).expect("the shipped model is usable")
});

fuzz_target!(|input: (bool, &[u8])| {
    let tokens = |body| match input.0 {
        true => FILES.chat_prompt(body).ok(),
        false => FILES.completion_prompt(body).ok(),
    };
    assert_eq!(tokens(input.1), tokens(input.1));
});
