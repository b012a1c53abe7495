//! Where a text may be cut so that its tokens are those of its pieces.
//!
//! A tokenizer first takes the *added* tokens (`<|im_start|>` and its like) out of the raw text, and then normalises,
//! splits and encodes what lies between them piece by piece. So the text may be cut just before an added token, if
//! that token is found in raw text (`normalized` is off) and takes no white space to its left (`lstrip` is off).
//! Tokens that look at the characters around them (`single_word`) would see a cut; with any of them nothing is cut.
//!
//! In a chat each message begins with such a token, so that a growing chat is encoded one message at a time.

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer;

/// Finds the cuts of one tokenizer.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Over every added token that is searched for in raw text; none if nothing may be cut.
    finder: Option<AhoCorasick>,
    /// By pattern: a text may be cut before it.
    cuts: Vec<bool>,
}

impl Segments {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let raw: Vec<_> = added.values().filter(|token| !token.normalized && !token.content.is_empty()).collect();
        if raw.is_empty() || added.values().any(|token| token.single_word) {
            return Self { finder: None, cuts: Vec::new() };
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(raw.iter().map(|token| token.content.as_bytes()))
            .ok();
        Self { finder, cuts: raw.iter().map(|token| !token.lstrip).collect() }
    }

    /// The pieces of `text`, in order; together they are the text.
    pub(crate) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let Some(finder) = &self.finder else { return vec![text] };
        let mut pieces = Vec::new();
        let mut from = 0;
        for found in finder.find_iter(text) {
            if self.cuts[found.pattern().as_usize()] && found.start() > from {
                pieces.push(&text[from..found.start()]);
                from = found.start();
            }
        }
        pieces.push(&text[from..]);
        pieces
    }
}
