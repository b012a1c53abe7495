//! Chat templates, rendered as Hugging Face's `apply_chat_template` renders them.
//!
//! On top of Jinja that means: `trim_blocks` and `lstrip_blocks`, `break` and `continue`, Python's methods on strings
//! and dicts, `tojson` as `json.dumps`, `raise_exception`, `{% generation %}` as a mark without effect, and the
//! tokenizer's special tokens (`bos_token`, `eos_token`, …) as variables.

use std::collections::BTreeMap;
use std::error::Error as _;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat;
use serde_json::Value as Json;

use crate::messages::{ContentShape, shape};
use crate::request::ChatBody;
use crate::{TokensError, json};

/// The chat templates of one model.
#[derive(Debug)]
pub(crate) struct ChatTemplates {
    environment: Environment<'static>,
    shapes: BTreeMap<String, ContentShape>,
    special_tokens: BTreeMap<String, Value>,
}

impl ChatTemplates {
    /// Name of the template that every chat uses.
    const DEFAULT: &'static str = "default";
    /// Name of the one that a chat with tools uses, where there is one.
    const TOOL_USE: &'static str = "tool_use";

    /// Reads `tokenizer_config.json`; a `chat_template.jinja` beside it takes the place of its template.
    pub(crate) fn new(config: &Json, jinja_file: Option<&str>) -> Result<Self, TokensError> {
        let mut templates =
            Self { environment: environment(), shapes: BTreeMap::new(), special_tokens: special_tokens(config) };
        for (name, source) in sources(config, jinja_file)? {
            templates.shapes.insert(name.clone(), ContentShape::of(&source));
            templates
                .environment
                .add_template_owned(name, without_generation_marks(&source))
                .map_err(|error| TokensError::File { file: "chat_template", reason: format!("{error:#}") })?;
        }
        Ok(templates)
    }

    /// The text that the engine encodes.
    pub(crate) fn render(&self, body: &ChatBody) -> Result<String, TokensError> {
        let with_tools = body.tools.is_some() && self.shapes.contains_key(Self::TOOL_USE);
        let name = if with_tools { Self::TOOL_USE } else { Self::DEFAULT };
        let content_shape = *self.shapes.get(name).ok_or(TokensError::NoTemplate)?;
        let messages: Vec<_> =
            body.messages.iter().map(|message| shape(message, content_shape)).collect::<Result<_, _>>()?;
        let base = context! {
            messages,
            tools => body.tools.clone().unwrap_or(Value::from(())),
            documents => body.documents.clone().unwrap_or(Value::from(())),
            add_generation_prompt => body.add_generation_prompt,
        };
        let context = context! { ..body.chat_template_kwargs.clone().map(Value::from).unwrap_or_default(),
        ..base, ..Value::from(self.special_tokens.clone()) };
        let template = self.environment.get_template(name).map_err(|error| failed(&error))?;
        template.render(context).map_err(|error| failed(&error))
    }
}

/// What a template said through `raise_exception`: the fault is in the messages, not in the template.
#[derive(Debug, thiserror::Error)]
#[error("raised by the chat template")]
struct Raised;

fn failed(error: &Error) -> TokensError {
    let detail = error.detail().unwrap_or_default();
    match error.source().and_then(|source| source.downcast_ref::<Raised>()) {
        Some(Raised) => TokensError::Request(format!("the model's chat template refuses these messages: {detail}")),
        None => TokensError::Unsupported(format!("its chat template fails here: {error:#}")),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment
}

fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson(ensure_ascii=true) is not supported"));
    }
    json::dumps(value, indent).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Templates by name: `chat_template` is one text, or a list of named ones.
fn sources(config: &Json, jinja_file: Option<&str>) -> Result<Vec<(String, String)>, TokensError> {
    let default = ChatTemplates::DEFAULT.to_owned();
    if let Some(source) = jinja_file {
        return Ok(vec![(default, source.to_owned())]);
    }
    let bad = || TokensError::File {
        file: "tokenizer_config.json",
        reason: "expected chat_template to be a text, or a list of objects with name and template".to_owned(),
    };
    let text = |entry: &Json, key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned).ok_or_else(bad);
    match config.get("chat_template") {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::String(source)) => Ok(vec![(default, source.clone())]),
        Some(Json::Array(entries)) => {
            entries.iter().map(|entry| Ok((text(entry, "name")?, text(entry, "template")?))).collect()
        }
        Some(_) => Err(bad()),
    }
}

/// `bos_token` and its like: a text, or an object with the text in `content`.
fn special_tokens(config: &Json) -> BTreeMap<String, Value> {
    let entries = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let text = |value: &Json| value.as_str().or_else(|| value.get("content")?.as_str()).map(Value::from);
    entries.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// `{% generation %}` marks what an assistant wrote, for training; a block that is always taken does the same here.
fn without_generation_marks(source: &str) -> String {
    let mut rewritten = source.to_owned();
    for (mark, block) in [("generation", "if true"), ("endgeneration", "endif")] {
        for (open, close) in [("{%", "%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%-", "-%}")] {
            rewritten = rewritten.replace(&format!("{open} {mark} {close}"), &format!("{open} {block} {close}"));
        }
    }
    rewritten
}

/// What stands between `{%` and `%}`, without white-space control.
pub(crate) fn tags(source: &str) -> impl Iterator<Item = &str> {
    source.split("{%").skip(1).filter_map(|rest| {
        let (tag, _) = rest.split_once("%}")?;
        Some(tag.trim_matches(['-', '+']).trim())
    })
}
