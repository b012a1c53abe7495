//! The files of a model folder that decide its tokens.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use serde_json::Value as Json;
use tokenizers::Tokenizer;

use crate::TokensError;
use crate::cache::SegmentCache;
use crate::request::{ChatBody, CompletionBody, Prompt};
use crate::segments::Segments;
use crate::template::ChatTemplates;

/// Tokenizer and chat template of a model. Immutable but for its cache; share it behind an `Arc`.
#[derive(Debug)]
pub struct ModelFiles {
    tokenizer: Tokenizer,
    templates: ChatTemplates,
    segments: Segments,
    cache: SegmentCache,
    vocabulary: u32,
    tokenizer_digest: String,
    template_digest: String,
}

impl ModelFiles {
    /// Bytes of text and tokens that the cache of one model keeps.
    ///
    /// 64 MiB is the text and tokens of about 8 million tokens: a thousand chats of 8,000 tokens each.
    pub const CACHE_BYTES_MAX: usize = 64 << 20;

    /// Reads `tokenizer.json`, and the template from `chat_template.jinja` or `tokenizer_config.json` (either may be
    /// absent: then the model takes no chat requests).
    ///
    /// # Errors
    /// A file that cannot be read, or is not what its name says.
    pub fn load(folder: &Path) -> Result<Self, TokensError> {
        let tokenizer = read(folder, "tokenizer.json")?;
        let config = read_if_there(folder, "tokenizer_config.json")?;
        let template = read_if_there(folder, "chat_template.jinja")?;
        Self::new(&tokenizer, config.as_deref(), template.as_deref())
    }

    /// From the texts of `tokenizer.json` and `tokenizer_config.json`, already in memory.
    ///
    /// # Errors
    /// A text that is not what its name says.
    pub fn from_parts(tokenizer_json: &str, tokenizer_config_json: &str) -> Result<Self, TokensError> {
        Self::new(tokenizer_json, Some(tokenizer_config_json), None)
    }

    fn new(tokenizer_json: &str, config_json: Option<&str>, jinja_file: Option<&str>) -> Result<Self, TokensError> {
        let unusable = |file, reason: String| TokensError::File { file, reason };
        let mut tokenizer =
            Tokenizer::from_str(tokenizer_json).map_err(|error| unusable("tokenizer.json", error.to_string()))?;
        // An engine takes prompts as long as its context, whatever the tokenizer was trained with.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unusable("tokenizer.json", error.to_string()))?;
        let config: Json = serde_json::from_str(config_json.unwrap_or("{}"))
            .map_err(|error| unusable("tokenizer_config.json", error.to_string()))?;
        let vocabulary = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1));
        Ok(Self {
            templates: ChatTemplates::new(&config, jinja_file)?,
            segments: Segments::of(&tokenizer),
            cache: SegmentCache::new(Self::CACHE_BYTES_MAX),
            vocabulary,
            tokenizer_digest: blake3::hash(tokenizer_json.as_bytes()).to_hex().to_string(),
            template_digest: template_digest(&config, jinja_file),
            tokenizer,
        })
    }

    /// Text → ids; added tokens in the text (`<|im_end|>`) are recognised, none are put around it.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let mut tokens = Vec::with_capacity(text.len() / 4);
        for segment in self.segments.split(text) {
            tokens.extend_from_slice(&self.cache.get_or_encode(segment, |segment| self.encode_whole(segment, false))?);
        }
        Ok(tokens)
    }

    /// Ids → text, special tokens included.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokensError> {
        self.tokenizer.decode(tokens, false).map_err(|error| TokensError::Tokenizer(error.to_string()))
    }

    /// One more than the highest id.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Tokens of a `/v1/completions` request, from its whole body: `prompt` is a text, or an array of ids.
    ///
    /// # Errors
    /// [`TokensError::Request`] for a body that no engine takes (no prompt, an id outside the vocabulary);
    /// [`TokensError::Unsupported`] for several prompts in one request.
    pub fn completion_prompt(&self, body: &[u8]) -> Result<Vec<u32>, TokensError> {
        let body = CompletionBody::parse(body)?;
        match body.prompt {
            Prompt::Text(text) if body.add_special_tokens => self.encode_whole(&text, true),
            Prompt::Text(text) => self.encode(&text),
            Prompt::Tokens(tokens) => self.check(tokens),
            Prompt::Batch => Err(TokensError::Unsupported(
                "prompt is a batch: send one text or one array of token ids a request".to_owned(),
            )),
        }
    }

    /// Tokens of a `/v1/chat/completions` request, from its whole body: messages rendered with the generation prompt,
    /// then encoded.
    ///
    /// # Errors
    /// [`TokensError::Request`] for messages that no engine takes or that the template refuses;
    /// [`TokensError::Unsupported`] for what only the engine knows, such as images; [`TokensError::NoTemplate`].
    pub fn chat_prompt(&self, body: &[u8]) -> Result<Vec<u32>, TokensError> {
        let body = ChatBody::parse(body)?;
        let text = self.templates.render(&body)?;
        if body.add_special_tokens { self.encode_whole(&text, true) } else { self.encode(&text) }
    }

    /// BLAKE3 of tokenizer.json, hex.
    #[must_use]
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// BLAKE3 of the chat template, hex; empty without one.
    #[must_use]
    pub fn template_digest(&self) -> &str {
        &self.template_digest
    }

    /// Ids that stand for a text each, with that text.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u32, String)> {
        (0..self.vocabulary).filter_map(|id| Some((id, self.decode(&[id]).ok()?)))
    }

    /// In one piece and past the cache.
    pub(crate) fn encode_whole(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokensError> {
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens);
        Ok(encoding.map_err(|error| TokensError::Tokenizer(error.to_string()))?.get_ids().to_vec())
    }

    fn check(&self, tokens: Vec<u32>) -> Result<Vec<u32>, TokensError> {
        match tokens.iter().find(|id| **id >= self.vocabulary) {
            None => Ok(tokens),
            Some(id) => Err(TokensError::Request(format!(
                "completion request: token id {id} is not in the vocabulary, expected 0 to {}",
                self.vocabulary.saturating_sub(1)
            ))),
        }
    }
}

/// Of the template's text; of the JSON of all of them where there are several.
fn template_digest(config: &Json, jinja_file: Option<&str>) -> String {
    let text = match (jinja_file, config.get("chat_template")) {
        (Some(source), _) => source.to_owned(),
        (None, Some(Json::String(source))) => source.clone(),
        (None, None | Some(Json::Null)) => return String::new(),
        (None, Some(several)) => several.to_string(),
    };
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn read(folder: &Path, name: &str) -> Result<String, TokensError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|source| TokensError::Read { path, source })
}

fn read_if_there(folder: &Path, name: &str) -> Result<Option<String>, TokensError> {
    match read(folder, name) {
        Ok(text) => Ok(Some(text)),
        Err(TokensError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
