//! A byte-level BPE tokenizer of 4096 tokens, most of them " word", trained on text of our own.
//!
//! The text has two parts. *Prose* (`prose.txt`, written for this) gives common English, Markdown, JSON and code their
//! tokens. *Word-like text*, made here from a seed, gives the many tokens of the form " word" that workloads are made
//! of: each made-up word occurs often enough that BPE finishes it before it turns to the prose.

use anyhow::anyhow;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Tokenizer};

/// In order of their ids, from 0.
const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCABULARY: usize = 4096;
const SEED: u64 = 2026;
/// 3,000 finished words leave some 1,000 tokens for bytes, word parts and the prose.
const WORDS: usize = 3_000;
/// Above the count of any pair of letters in the prose that is not an English word's.
const OCCURRENCES: usize = 40;
const PROSE: &str = include_str!("prose.txt");

/// ChatML, with the content of each message as it is.
const CHAT_TEMPLATE: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
";

/// The bytes of `tokenizer.json`.
pub(crate) fn tokenizer_json() -> anyhow::Result<String> {
    let byte_level = ByteLevel::default().add_prefix_space(false);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL_TOKENS.map(|token| AddedToken::from(token, true)).to_vec())
        .build();
    let texts = [PROSE.to_owned(), word_like_text()];
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts.into_iter()).map_err(|error| anyhow!(error))?;
    tokenizer.to_string(false).map_err(|error| anyhow!(error))
}

/// The bytes of `tokenizer_config.json`.
pub(crate) fn tokenizer_config_json() -> anyhow::Result<String> {
    let [end_of_text, _, end_of_message] = SPECIAL_TOKENS;
    let config = serde_json::json!({
        "chat_template": CHAT_TEMPLATE,
        "eos_token": end_of_message,
        "pad_token": end_of_text,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    Ok(serde_json::to_string_pretty(&config)? + "\n")
}

/// Every made-up word, [`OCCURRENCES`] times, each after a space.
fn word_like_text() -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut words: Vec<String> = Vec::with_capacity(WORDS);
    while words.len() < WORDS {
        let word = made_up_word(&mut rng);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let line: String = words.iter().map(|word| format!(" {word}")).collect();
    line.repeat(OCCURRENCES)
}

/// One or two syllables of consonant and vowel, at times with a consonant at the end.
fn made_up_word(rng: &mut ChaCha8Rng) -> String {
    const CONSONANTS: &[u8] = b"bdfghjklmnprstvwz";
    const VOWELS: &[u8] = b"aeiou";
    let mut letter = |of: &[u8]| char::from(*of.choose(rng).expect("the alphabets are not empty"));
    let mut word = String::from_iter([letter(CONSONANTS), letter(VOWELS), letter(CONSONANTS)]);
    if rng.random_bool(0.5) {
        word.push(char::from(*VOWELS.choose(rng).expect("the alphabets are not empty")));
    }
    word
}
