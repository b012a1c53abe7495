//! What a request body says, found by one walk over its bytes: no tree is built of it, and nothing of it is rebuilt.
//!
//! Only the members of the outermost object are looked at; what they hold is stepped over, strings and brackets minded. A body
//! that is no JSON inside passes, and is refused by the engine that reads it; one whose outermost object is broken is refused here.
//! A member that is looked for and is there twice is refused too: the engine would take the one, the router the other.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::answer::Refusal;
use crate::prompt::Surface;

/// Values deeper than this are refused: engines' readers stop well before.
const DEPTH_MAX: usize = 512;

/// What every body is scanned for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan<'a> {
    pub(crate) model: Option<Cow<'a, str>>,
    pub(crate) stream: bool,
    /// What the prompt is made of, in the order in which templates put it: tools, system, messages or text.
    prompt: [&'a [u8]; 3],
    /// Where the value of `cache_salt` is.
    salt: Option<Range<usize>>,
    /// Just inside the object, and whether it has members; `None`: there is no object.
    inside: Option<(usize, bool)>,
}

impl<'a> Scan<'a> {
    /// Reads a body, if it may be read as JSON by anybody.
    ///
    /// Some requests have no body, and a file upload names its model in a form. All else may be read as JSON by an engine,
    /// whatever its sender calls it, so that it must be JSON in UTF-8: a salt could be hidden in what only the engine can read.
    pub(crate) fn of(surface: Surface, headers: &HeaderMap, body: &'a [u8]) -> Result<Self, Refusal> {
        const FORMS: [&str; 3] = ["multipart/", "audio/", "image/"];
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is = |form: &&str| kind.get(..form.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(form));
        let form = FORMS.iter().any(is) && !body.trim_ascii_start().starts_with(b"{");
        match surface {
            Surface::Other if body.is_empty() || form => Ok(Self::default()),
            _ => Self::parse(body),
        }
    }

    /// Reads a body that is one JSON object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let mut walk = Walk { bytes: body, at: 0 };
        walk.object().map_err(|expected| {
            let at = walk.at;
            Refusal::BadRequest(format!(
                "the body is not as expected: expected a JSON object with a model and a prompt, and {expected} at byte {at}"
            ))
        })
    }

    /// The parts of the body that the prompt is made of; those of most requests come first and stay as they are when a chat grows.
    pub(crate) fn prompt(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.prompt.into_iter()
    }

    /// The body with this `cache_salt` and no other; `None`: with none. A body that is no JSON object stays as it is.
    pub(crate) fn salted(&self, body: &Bytes, salt: Option<&str>) -> Bytes {
        let Some((inside, has_members)) = self.inside else { return body.clone() };
        let (value, span) = match (salt, &self.salt) {
            (None, None) => return body.clone(),
            (None, Some(span)) => ("null".to_owned(), span.clone()),
            (Some(salt), Some(span)) => (quoted(salt), span.clone()),
            (Some(salt), None) => {
                let comma = if has_members { "," } else { "" };
                (format!("\"cache_salt\":{}{comma}", quoted(salt)), inside..inside)
            }
        };
        let mut salted = BytesMut::with_capacity(body.len() + value.len());
        salted.put_slice(&body[..span.start]);
        salted.put_slice(value.as_bytes());
        salted.put_slice(&body[span.end..]);
        salted.freeze()
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Step<T> = Result<T, &'static str>;

impl<'a> Walk<'a> {
    fn object(&mut self) -> Step<Scan<'a>> {
        self.space();
        self.byte(b'{', "an opening brace")?;
        let mut scan = Scan { inside: Some((self.at, false)), ..Scan::default() };
        let mut streams = false;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            scan.inside = scan.inside.map(|(at, _)| (at, true));
            loop {
                self.space();
                let name = self.text()?;
                self.space();
                self.byte(b':', "a colon")?;
                self.space();
                self.member(&name, &mut scan, &mut streams)?;
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return Err("a comma or the closing brace"),
                }
            }
        }
        self.space();
        if self.at == self.bytes.len() { Ok(scan) } else { Err("nothing more") }
    }

    fn member(&mut self, name: &str, scan: &mut Scan<'a>, streams: &mut bool) -> Step<()> {
        const TWICE: &str = "model, stream and cache_salt once";
        match name {
            "model" if scan.model.is_some() => Err(TWICE),
            "model" if self.peek() == Some(b'"') => {
                scan.model = Some(self.text()?);
                Ok(())
            }
            "model" => match self.value()? {
                b"null" => Ok(()),
                _ => Err("a text as the model, ending"),
            },
            "stream" if std::mem::replace(streams, true) => Err(TWICE),
            "stream" => match self.value()? {
                b"true" => {
                    scan.stream = true;
                    Ok(())
                }
                b"false" | b"null" => Ok(()),
                _ => Err("true or false as stream, ending"),
            },
            "cache_salt" if scan.salt.is_some() => Err(TWICE),
            "cache_salt" => {
                let start = self.at;
                self.value()?;
                scan.salt = Some(start..self.at);
                Ok(())
            }
            _ => {
                let value = self.value()?;
                match name {
                    "tools" | "functions" => scan.prompt[0] = value,
                    "system" | "instructions" => scan.prompt[1] = value,
                    "messages" | "prompt" | "input" => scan.prompt[2] = value,
                    _ => {}
                }
                Ok(())
            }
        }
    }

    /// Steps over a value; its bytes.
    fn value(&mut self) -> Step<&'a [u8]> {
        let start = self.at;
        // One bit a level: set for an object. Nothing is allocated for it.
        let (mut depth, mut kinds) = (0_usize, [0_u64; DEPTH_MAX / 64]);
        loop {
            match self.peek() {
                Some(b'"') => _ = self.string()?,
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return Err("values less deep");
                    }
                    let bit = 1 << (depth % 64);
                    kinds[depth / 64] = if open == b'{' { kinds[depth / 64] | bit } else { kinds[depth / 64] & !bit };
                    (depth, self.at) = (depth + 1, self.at + 1);
                    continue;
                }
                Some(close @ (b'}' | b']')) => {
                    depth = depth.checked_sub(1).ok_or("a value")?;
                    if (kinds[depth / 64] >> (depth % 64) & 1 == 1) != (close == b'}') {
                        return Err("the bracket that was opened last closed first");
                    }
                    self.at += 1;
                }
                Some(b',' | b':' | b' ' | b'\n' | b'\r' | b'\t') if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(byte) if is_bare(byte) => {
                    let bare = self.bytes[self.at..].iter().take_while(|byte| is_bare(**byte)).count();
                    self.at += bare;
                }
                Some(_) => return Err("a value"),
                None => return Err("more"),
            }
            if depth == 0 {
                return Ok(&self.bytes[start..self.at]);
            }
        }
    }

    /// A string, as it reads.
    fn text(&mut self) -> Step<Cow<'a, str>> {
        let raw = self.string()?;
        if !raw.contains(&b'\\') {
            return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| "UTF-8, ending");
        }
        let quoted = &self.bytes[self.at - raw.len() - 2..self.at];
        serde_json::from_slice(quoted).map(Cow::Owned).map_err(|_| "a string with known escapes, ending")
    }

    /// Steps over a string; what is between its quotes.
    fn string(&mut self) -> Step<&'a [u8]> {
        self.byte(b'"', "a quotation mark")?;
        let start = self.at;
        loop {
            let found = memchr::memchr2(b'"', b'\\', &self.bytes[self.at..]).ok_or("the end of a string")?;
            self.at += found;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Ok(&self.bytes[start..self.at - 1]);
            }
            self.at += 2;
            if self.at > self.bytes.len() {
                return Err("the end of a string");
            }
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn byte(&mut self, byte: u8, expected: &'static str) -> Step<()> {
        if self.peek() != Some(byte) {
            return Err(expected);
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Of a number, `true`, `false` or `null`.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn refused(body: &str) -> String {
        Scan::parse(body.as_bytes()).unwrap_err().to_string()
    }

    fn salted(body: &str, salt: Option<&str>) -> String {
        let bytes = Bytes::from(body.to_owned());
        let salted = Scan::parse(&bytes).unwrap().salted(&bytes, salt);
        String::from_utf8(salted.to_vec()).unwrap()
    }

    #[test]
    fn what_is_looked_for_is_found_in_the_outermost_object_only() {
        let body =
            r#" {"messages": [{"model": "no", "stream": true, "x": "\"}{["}], "mo\u0064el" : "a\"b", "stream":true} "#;
        let scan = Scan::parse(body.as_bytes()).unwrap();
        assert_eq!((scan.model.as_deref(), scan.stream, scan.salt), (Some("a\"b"), true, None));
        let scan = Scan::parse(b"{\"model\": null, \"stream\": null, \"n\": -1.5e+3}").unwrap();
        assert_eq!((scan.model, scan.stream), (None, false));
        assert_eq!(Scan::parse(b"{}").unwrap().model, None);
    }

    #[test]
    fn a_salt_is_put_in_or_in_anothers_place_and_all_else_stays() {
        assert_eq!(salted("{ }", Some("s")), r#"{"cache_salt":"s" }"#);
        assert_eq!(salted(r#"{ "a": 1}"#, Some("s\"")), r#"{"cache_salt":"s\"", "a": 1}"#);
        for theirs in [r#""theirs""#, r#"{"a": ["b"]}"#, "17", "null"] {
            let body = format!(r#"{{"a" : 1 , "cache_\u0073alt" :{theirs} ,"z":2}}"#);
            assert_eq!(salted(&body, Some("s")), r#"{"a" : 1 , "cache_\u0073alt" :"s" ,"z":2}"#);
            assert_eq!(salted(&body, None), r#"{"a" : 1 , "cache_\u0073alt" :null ,"z":2}"#);
        }
        assert_eq!(salted(r#"{"a": 1}"#, None), r#"{"a": 1}"#);
        let form = Bytes::from_static(b"--form--");
        assert_eq!(Scan::default().salted(&form, Some("s")), form, "no object, no place for it");
    }

    #[test]
    fn only_what_is_a_form_or_nothing_goes_by_unread() {
        let of = |surface, kind: &str, body: &[u8]| {
            Scan::of(surface, &HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]), body)
                .map(|scan| scan.inside.is_some())
        };
        assert_eq!(of(Surface::Other, "multipart/form-data; boundary=b", b"--b"), Ok(false));
        assert_eq!(of(Surface::Other, "application/json", b""), Ok(false));
        assert_eq!(of(Surface::Other, "Multipart/x", b" {\"a\": 1}"), Ok(true));
        let utf_16: Vec<u8> = "{\"cache_salt\": \"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (kind, body) in [("application/json", utf_16.as_slice()), ("text/plain", b"--b"), ("", b"\xef\xbb\xbf{}")] {
            assert!(of(Surface::Other, kind, body).is_err(), "{kind}");
        }
        assert!(of(Surface::Chat, "multipart/form-data", b"--b").is_err());
        assert!(of(Surface::Chat, "application/json", b"").is_err());
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        for (body, expected) in [
            ("{\"model\": ", "more at byte 10"),
            ("[]", "an opening brace at byte 0"),
            (r#"{"model": "a", "model": "b"}"#, "once"),
            (r#"{"cache_salt": "a", "cache_\u0073alt": "b"}"#, "once"),
            (r#"{"stream": false, "stream": true}"#, "once"),
            (r#"{"model": 5}"#, "a text as the model"),
            (r#"{"stream": "yes"}"#, "true or false as stream"),
            (r#"{"a": [}]}"#, "closed first"),
            (r#"{"a": 1} {"cache_salt": "b"}"#, "nothing more"),
            (r#"{"a": "b}"#, "the end of a string"),
            (r#"{"a": "\"#, "the end of a string"),
            (r#"{"a" 1}"#, "a colon"),
            (r#"{"a": 1 "b": 2}"#, "a comma or the closing brace"),
            (r#"{"a": }"#, "a value"),
            ("{'a': 1}", "a quotation mark"),
        ] {
            let refused = refused(body);
            assert!(refused.contains(expected), "{body}: {refused}");
        }
        assert!(refused(&format!("{{\"a\": {}", "[".repeat(100_000))).contains("less deep"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let members = proptest::collection::vec((any::<String>(), inner.clone()), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever object a JSON reader reads, the scan reads alike, and a salted one differs in its salt only.
        #[test]
        fn the_scan_agrees_with_a_reader_of_json(
            members in proptest::collection::vec((any::<String>(), value()), 0..6),
            model in proptest::option::of(any::<String>()),
            theirs in proptest::option::of(value()),
            pretty in any::<bool>(),
        ) {
            let mut object: Map<_, _> = members.into_iter().collect();
            object.retain(|name, _| !["model", "stream", "cache_salt"].contains(&name.as_str()));
            object.extend(model.iter().map(|model| ("model".to_owned(), json!(model))));
            object.extend(theirs.map(|theirs| ("cache_salt".to_owned(), theirs)));
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let body = Bytes::from(text.unwrap());
            let scan = Scan::parse(&body).unwrap();
            prop_assert_eq!(scan.model.as_deref(), model.as_deref());
            let salted: Value = serde_json::from_slice(&scan.salted(&body, Some("ours"))).unwrap();
            object.insert("cache_salt".to_owned(), json!("ours"));
            prop_assert_eq!(salted, Value::Object(object));
        }

        /// Bytes of any kind: an answer, never a panic; and nothing that a JSON reader takes for an object is refused for its form.
        #[test]
        fn any_bytes_are_survived(text in "[\\[\\]{}\",:\\\\ a-c0-9nulltrue]{0,40}") {
            let scan = Scan::parse(text.as_bytes());
            if scan.is_err() {
                prop_assert!(!serde_json::from_str::<Map<String, Value>>(&text).is_ok_and(|map| map.keys().all(|key| key != "model")));
            }
        }
    }
}
