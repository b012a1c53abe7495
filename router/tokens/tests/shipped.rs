//! The tokenizer that ships with the simulated model has the properties that workloads and the demo rest on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../examples/train_tokenizer/train.rs"]
mod train;

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use weft_tokens::{ModelFiles, StableTokens};

static FILES: LazyLock<ModelFiles> = LazyLock::new(|| ModelFiles::load(&folder()).unwrap());
static STABLE: LazyLock<StableTokens> = LazyLock::new(|| StableTokens::of(&FILES));

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../weft/assets/sim-8b")
}

#[test]
fn training_again_gives_the_same_bytes() {
    let shipped = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    assert!(train::tokenizer_json().unwrap() == shipped("tokenizer.json"), "tokenizer.json differs");
    assert_eq!(train::tokenizer_config_json().unwrap(), shipped("tokenizer_config.json"));
}

#[test]
fn the_vocabulary_is_small_and_mostly_stable_words() {
    assert_eq!(FILES.vocabulary(), 4096);
    assert!(STABLE.ids().len() >= 2500, "{} stable tokens", STABLE.ids().len());
    for (id, text) in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].iter().enumerate() {
        assert_eq!(FILES.encode(text).unwrap(), [u32::try_from(id).unwrap()]);
    }
}

#[test]
fn a_chat_is_rendered_as_chat_ml() {
    let body = json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]},
    ]});
    let tokens = FILES.chat_prompt(body.to_string().as_bytes()).unwrap();
    assert_eq!(
        FILES.decode(&tokens).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello\nthere<|im_end|>\n<|im_start|>assistant\n"
    );
}

fn run() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(proptest::sample::select(STABLE.ids()), 1..200)
}

proptest! {
    #[test]
    fn a_run_of_stable_tokens_survives_as_text(run in run()) {
        let text = FILES.decode(&run).unwrap();
        prop_assert_eq!(FILES.encode(&text).unwrap(), run);
    }

    #[test]
    fn a_run_of_stable_tokens_survives_as_messages_of_a_chat(user in run(), assistant in run()) {
        let (asked, said) = (FILES.decode(&user).unwrap(), FILES.decode(&assistant).unwrap());
        let body = json!({"messages": [
            {"role": "user", "content": asked}, {"role": "assistant", "content": said}, {"role": "user", "content": asked},
        ]});
        let marker = |text: &str| FILES.encode(text).unwrap();
        let (ask, say, end) = (marker("<|im_start|>user\n"), marker("<|im_start|>assistant\n"), marker("<|im_end|>\n"));
        let expected = [&ask, &user, &end, &say, &assistant, &end, &ask, &user, &end, &say].map(Vec::as_slice).concat();
        prop_assert_eq!(FILES.chat_prompt(body.to_string().as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_token_generated_after_a_prompt_is_the_token_found_in_the_next_turn(user in run(), answer in run()) {
        let asked = json!({"role": "user", "content": FILES.decode(&user).unwrap()});
        let said = json!({"role": "assistant", "content": FILES.decode(&answer).unwrap()});
        let prompt = |messages: &[&serde_json::Value]| {
            FILES.chat_prompt(json!({"messages": messages}).to_string().as_bytes()).unwrap()
        };
        let after_decoding = [prompt(&[&asked]), answer].concat();
        prop_assert!(prompt(&[&asked, &said, &asked]).starts_with(&after_decoding));
    }
}
