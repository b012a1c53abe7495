//! Chat messages as a template is to see them.
//!
//! A template was written for one of two shapes of `content`: a text, or a list of parts that it walks over. Clients
//! send either. vLLM looks at the template to know which one it wants and turns every message into that shape, and so
//! does this; `tool_calls` get their arguments as an object, since clients send them as JSON in a string.

use minijinja::Value;
use minijinja::value::ValueKind;

use crate::TokensError;
use crate::template::tags;

/// The shape of `content` that a template was written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ContentShape {
    /// A text; parts are joined by line feeds.
    Text,
    /// A list of `{"type": "text", "text": …}`.
    Parts,
}

impl ContentShape {
    /// `Parts` if the template has a loop over a message's content, directly or through a variable.
    pub(crate) fn of(template: &str) -> Self {
        let mut content_variables = Vec::new();
        for tag in tags(template) {
            if let Some((name, value)) = tag.strip_prefix("set ").and_then(|rest| rest.split_once('=')) {
                if is_content(value) {
                    content_variables.push(name.trim());
                }
            } else if let Some((_, list)) = tag.strip_prefix("for ").and_then(|rest| rest.split_once(" in "))
                && (is_content(list) || content_variables.contains(&list.trim()))
            {
                return Self::Parts;
            }
        }
        Self::Text
    }
}

fn is_content(expression: &str) -> bool {
    let expression = expression.trim();
    [".content", "['content']", "[\"content\"]"].iter().any(|suffix| expression.ends_with(suffix))
}

/// The message, in the shape that the template wants.
pub(crate) fn shape(message: &Value, content_shape: ContentShape) -> Result<Value, TokensError> {
    if field(message, "role")?.as_str().is_none() {
        return Err(TokensError::Request("chat request: every message needs a role, a text".to_owned()));
    }
    let mut fields = Vec::new();
    for key in message.try_iter().map_err(|error| TokensError::Request(error.to_string()))? {
        let value = message.get_item(&key).unwrap_or_default();
        match key.as_str() {
            Some("content") => {}
            Some("tool_calls") if value.is_none() => {}
            Some("tool_calls") => fields.push((key, tool_calls(&value)?)),
            _ => fields.push((key, value)),
        }
    }
    fields.push((Value::from("content"), content(&field(message, "content")?, content_shape)?));
    Ok(fields.into_iter().collect())
}

fn field(message: &Value, name: &str) -> Result<Value, TokensError> {
    if message.kind() != ValueKind::Map {
        return Err(TokensError::Request("chat request: every message is an object with role and content".to_owned()));
    }
    Ok(message.get_attr(name).unwrap_or_default())
}

fn content(value: &Value, shape: ContentShape) -> Result<Value, TokensError> {
    let texts = match value.kind() {
        ValueKind::String if shape == ContentShape::Text => return Ok(value.clone()),
        ValueKind::String => vec![value.clone()],
        ValueKind::None | ValueKind::Undefined => Vec::new(),
        ValueKind::Seq => {
            value.try_iter().map_err(bad_content)?.map(|part| part_text(&part)).collect::<Result<_, _>>()?
        }
        _ => return Err(TokensError::Request("chat request: content is a text or a list of parts".to_owned())),
    };
    Ok(match shape {
        ContentShape::Text => {
            let texts: Vec<_> = texts.iter().filter_map(Value::as_str).collect();
            Value::from(texts.join("\n"))
        }
        ContentShape::Parts => {
            let part = |text| [("type", Value::from("text")), ("text", text)].into_iter().collect::<Value>();
            texts.into_iter().map(part).collect()
        }
    })
}

fn part_text(part: &Value) -> Result<Value, TokensError> {
    if part.kind() == ValueKind::String {
        return Ok(part.clone());
    }
    let kind = part.get_attr("type").map_err(bad_content)?;
    match kind.as_str() {
        Some("text" | "input_text" | "output_text" | "refusal" | "thinking") => {}
        Some(other) => return Err(TokensError::Unsupported(format!("a message has a part of type '{other}'"))),
        None => return Err(TokensError::Request("chat request: every part of a content has a type".to_owned())),
    }
    let text = part.get_attr(kind.as_str().filter(|kind| matches!(*kind, "refusal" | "thinking")).unwrap_or("text"));
    let text = text.map_err(bad_content)?;
    if text.as_str().is_none() {
        return Err(TokensError::Request("chat request: a text part has no text".to_owned()));
    }
    Ok(text)
}

fn tool_calls(calls: &Value) -> Result<Value, TokensError> {
    let calls = calls.try_iter().map_err(|error| TokensError::Request(format!("tool_calls: {error}")))?;
    calls.map(|call| tool_call(&call)).collect()
}

/// The call, with its arguments as an object.
fn tool_call(call: &Value) -> Result<Value, TokensError> {
    let function = field(call, "function")?;
    let arguments = field(&function, "arguments")?;
    let arguments = match arguments.as_str() {
        Some(text) if text.trim().is_empty() => Value::from_serialize(serde_json::Map::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| TokensError::Request(format!("arguments of a tool call are no JSON: {error}")))?,
        None if arguments.is_undefined() || arguments.is_none() => Value::from_serialize(serde_json::Map::new()),
        None => arguments,
    };
    Ok(replace(call, "function", replace(&function, "arguments", arguments)))
}

/// The map, with another value under `name`, in the same place.
fn replace(map: &Value, name: &str, value: Value) -> Value {
    let keys = map.try_iter().into_iter().flatten();
    let mut fields: Vec<_> = keys.map(|key| (key.clone(), map.get_item(&key).unwrap_or_default())).collect();
    match fields.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
        Some((_, slot)) => *slot = value,
        None => fields.push((Value::from(name), value)),
    }
    fields.into_iter().collect()
}

fn bad_content(error: minijinja::Error) -> TokensError {
    TokensError::Request(format!("chat request: content of a message: {error}"))
}
