//! Prompt → tokens, exactly as the engine does it: tokenizer.json, chat template, and what a request body holds.
use std::path::Path;

/// Tokenizer and chat template of a model folder (`tokenizer.json`, `tokenizer_config.json` or `chat_template.jinja`). Shared, immutable.
#[derive(Debug)]
pub struct ModelFiles {}

/// Why a folder or a request did not give tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// Placeholder.
    #[error("{0}")]
    Invalid(String),
}

impl ModelFiles {
    /// Reads the folder.
    pub fn load(_folder: &Path) -> Result<Self, TokensError> {
        unimplemented!()
    }
    /// From texts already in memory (`tokenizer.json`, and the template).
    pub fn from_parts(_tokenizer_json: &[u8], _chat_template: &str) -> Result<Self, TokensError> {
        unimplemented!()
    }
    /// Text → ids, special tokens in the text recognised, none added.
    pub fn encode(&self, _text: &str) -> Result<Vec<u32>, TokensError> {
        unimplemented!()
    }
    /// Ids → text.
    pub fn decode(&self, _tokens: &[u32]) -> Result<String, TokensError> {
        unimplemented!()
    }
    /// Vocabulary size.
    pub fn vocabulary(&self) -> usize {
        unimplemented!()
    }
    /// A completions request's `prompt`: a text or an array of token ids.
    pub fn completion_prompt(&self, _prompt: &serde_json::Value) -> Result<Vec<u32>, TokensError> {
        unimplemented!()
    }
    /// A chat request's body (`messages`, `tools`, …) rendered with the generation prompt, then encoded.
    pub fn chat_prompt(&self, _body: &serde_json::Value) -> Result<Vec<u32>, TokensError> {
        unimplemented!()
    }
    /// BLAKE3 of tokenizer.json, hex.
    pub fn tokenizer_digest(&self) -> &str {
        unimplemented!()
    }
    /// BLAKE3 of the chat template, hex.
    pub fn template_digest(&self) -> &str {
        unimplemented!()
    }
}
