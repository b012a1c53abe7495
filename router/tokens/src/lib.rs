//! Prompt → tokens, exactly as the engine does it: tokenizer.json, chat template, and what a request body holds.
//!
//! ```text
//!   /v1/completions body ──► prompt text or ids ───────────────────┐
//!   /v1/chat/completions body ──► messages ──► chat template ──► text ──► segments ──► ids
//!                                                                           └─ cached, one by one
//! ```
//!
//! # Invariants
//! - tokens are those of the engine (vLLM's reading of a request, Hugging Face's of a template and a tokenizer), or an
//!   error says why they cannot be: [`TokensError::Unsupported`]. A guess would hash into blocks that nobody holds;
//! - the cache never changes an answer: a prompt is cut only where the tokenizer's own answer cannot change;
//! - everything here is a pure function of the files and the request, and runs on the caller's thread.
//!
//! # Absent on purpose
//! - images, audio and other parts than text: they come with their extra keys;
//! - `strftime_now` in templates: such a template takes its branch for "not defined".

mod cache;
mod error;
mod files;
mod json;
mod messages;
mod request;
mod segments;
mod stable;
mod template;

pub use error::TokensError;
pub use files::ModelFiles;
pub use stable::StableTokens;
