//! Tokens that survive as text.
//!
//! A workload made of token ids (a trace of block hashes) has to be sent as chat text at times, and the engine must find
//! the same ids in it. That holds for any run of tokens that are a space and letters, if each is what the
//! tokenizer makes of its own text and its pre-tokenizer splits words at spaces.

use serde_json::json;

use crate::ModelFiles;

/// Tokens of the form " word" of which any run, written as text, is read as the same run, alone or as the content of a chat
/// message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StableTokens {
    ids: Vec<u32>,
}

impl StableTokens {
    /// Tries every token of the vocabulary (about 5 µs each). Empty for a model whose template changes the text of messages.
    #[must_use]
    pub fn of(files: &ModelFiles) -> Self {
        let words: Vec<_> = files.pieces().filter(|(_, text)| is_word(text)).collect();
        let Some((pivot, pivot_text)) = words.iter().find(|(id, text)| reads_as(files, text, &[*id])) else {
            return Self { ids: Vec::new() };
        };
        let survives = |(id, text): &(u32, String)| {
            let between = format!("{pivot_text}{text}{pivot_text}");
            reads_as(files, text, &[*id]) && reads_as(files, &between, &[*pivot, *id, *pivot])
        };
        let ids: Vec<_> = words.iter().filter(|word| survives(word)).map(|(id, _)| *id).collect();
        if survives_in_chat(files, &ids) { Self { ids } } else { Self { ids: Vec::new() } }
    }

    /// The tokens, ascending.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// A space, then ASCII letters.
fn is_word(text: &str) -> bool {
    text.strip_prefix(' ').is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

fn reads_as(files: &ModelFiles, text: &str, ids: &[u32]) -> bool {
    files.encode_whole(text, false).is_ok_and(|encoded| encoded == ids)
}

/// Every token, in one message between two others.
fn survives_in_chat(files: &ModelFiles, ids: &[u32]) -> bool {
    let Ok(content) = files.decode(ids) else { return false };
    let turn = |role: &str| json!({"role": role, "content": content});
    let body = json!({"messages": [turn("user"), turn("assistant"), turn("user")]}).to_string();
    let Ok(prompt) = files.chat_prompt(body.as_bytes()) else { return false };
    !ids.is_empty() && prompt.windows(ids.len()).filter(|window| *window == ids).count() == 3
}
