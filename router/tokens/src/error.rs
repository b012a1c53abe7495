//! Why a folder or a request gave no tokens.

use std::path::PathBuf;

/// Why a folder or a request gave no tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// A file of the model folder cannot be read.
    #[error("cannot read {path}: expected a model folder with tokenizer.json and tokenizer_config.json")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of the model folder is not what its name says.
    #[error("{file} is not usable: {reason}")]
    File {
        /// File name in the model folder.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A chat request for a model whose files hold no chat template.
    #[error("the model has no chat template: use /v1/completions, or add chat_template.jinja to its folder")]
    NoTemplate,
    /// The request cannot be served by any engine.
    #[error("{0}")]
    Request(String),
    /// The request is fine, but its tokens cannot be told here as the engine will make them.
    #[error("tokens of this request are known to the engine only: {0}")]
    Unsupported(String),
    /// The tokenizer itself failed.
    #[error("tokenizer failed: {0}")]
    Tokenizer(String),
}

impl TokensError {
    /// The fault lies with who sent the request, and every engine would refuse it.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::Request(_))
    }
}
