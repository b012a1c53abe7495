//! What of a request body decides its tokens. Everything else in the body is skipped over, not stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use minijinja::Value;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::TokensError;

/// Body of a `/v1/completions` request.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionBody<'a> {
    #[serde(borrow)]
    pub(crate) prompt: Prompt<'a>,
    #[serde(default = "yes")]
    pub(crate) add_special_tokens: bool,
}

/// One prompt of a completion.
#[derive(Debug)]
pub(crate) enum Prompt<'a> {
    Text(Cow<'a, str>),
    Tokens(Vec<u32>),
    /// Several prompts in one request.
    Batch,
}

/// Body of a `/v1/chat/completions` request.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatBody {
    pub(crate) messages: Vec<Value>,
    #[serde(default)]
    pub(crate) tools: Option<Value>,
    #[serde(default)]
    pub(crate) documents: Option<Value>,
    #[serde(default = "yes")]
    pub(crate) add_generation_prompt: bool,
    #[serde(default)]
    pub(crate) add_special_tokens: bool,
    #[serde(default)]
    pub(crate) continue_final_message: bool,
    #[serde(default)]
    pub(crate) chat_template: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

impl<'a> CompletionBody<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, TokensError> {
        serde_json::from_slice(body).map_err(|error| TokensError::Request(format!("completion request: {error}")))
    }
}

impl ChatBody {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, TokensError> {
        let body: Self =
            serde_json::from_slice(body).map_err(|error| TokensError::Request(format!("chat request: {error}")))?;
        if body.chat_template.is_some() {
            return Err(TokensError::Unsupported("it brings its own chat_template".to_owned()));
        }
        if body.continue_final_message {
            return Err(TokensError::Unsupported("it asks for continue_final_message".to_owned()));
        }
        Ok(body)
    }
}

fn yes() -> bool {
    true
}

impl<'de: 'a, 'a> Deserialize<'de> for Prompt<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptVisitor;

        impl<'de> Visitor<'de> for PromptVisitor {
            type Value = Prompt<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a prompt: a text or an array of token ids")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Prompt::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Prompt::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(element) = seq.next_element()? {
                    match element {
                        Element::Token(token) => tokens.push(token),
                        Element::Prompt => {
                            while seq.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(Prompt::Batch);
                        }
                    }
                }
                Ok(Prompt::Tokens(tokens))
            }
        }

        deserializer.deserialize_any(PromptVisitor)
    }
}

/// An element of the `prompt` array.
enum Element {
    Token(u32),
    Prompt,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id from 0 to 4294967295")
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Self::Value, E> {
                u32::try_from(id).map(Element::Token).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))
            }

            fn visit_str<E: Error>(self, _text: &str) -> Result<Self::Value, E> {
                Ok(Element::Prompt)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element::Prompt)
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}
