//! What an engine says at the end of its answer that the prompt took, read from the last bytes that pass.
//!
//! Answers go through unparsed: the last kilobytes are kept, and two numbers are looked for in them once the answer is over. A name
//! in its plain quotes is no text of a model: inside a JSON string its quotes would be escaped.

use memchr::memmem;

/// Tokens of a prompt, by the engine's own count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    /// Those that it did not compute; `None`: it does not say.
    pub(crate) cached_tokens: Option<u32>,
}

/// The last bytes of an answer.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    /// A usage object with everything that engines put after it.
    const BYTES: usize = 2 << 10;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(Self::BYTES)..];
        let excess = (self.0.len() + last.len()).saturating_sub(2 * Self::BYTES);
        if excess > 0 {
            self.0.drain(..self.0.len().saturating_sub(Self::BYTES.saturating_sub(last.len())));
        }
        self.0.extend_from_slice(last);
    }

    /// In OpenAI's words, those of its Responses, or Anthropic's.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let number = |names: [&str; 2]| names.into_iter().find_map(|name| self.number(name));
        let prompt_tokens = number(["\"prompt_tokens\"", "\"input_tokens\""])?;
        Some(Usage { prompt_tokens, cached_tokens: number(["\"cached_tokens\"", "\"cache_read_input_tokens\""]) })
    }

    fn number(&self, name: &str) -> Option<u32> {
        let rest = self.0[memmem::rfind(&self.0, name.as_bytes())? + name.len()..].trim_ascii_start();
        let rest = rest.strip_prefix(b":")?.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(chunks: &[&str]) -> Option<Usage> {
        let mut tail = Tail::default();
        chunks.iter().for_each(|chunk| tail.push(chunk.as_bytes()));
        tail.usage()
    }

    #[test]
    fn counts_are_found_at_the_end_whatever_came_before() {
        let openai = r#""usage": {"prompt_tokens": 300, "prompt_tokens_details": {"cached_tokens" : 256}}}"#;
        let text = r#"{"text": "\"prompt_tokens\": 1, \"cached_tokens\": 2", "#;
        let expected = Some(Usage { prompt_tokens: 300, cached_tokens: Some(256) });
        assert_eq!(usage(&[text, openai]), expected);
        assert_eq!(usage(&[&"x".repeat(100_000), &openai[..20], &openai[20..], "\n\ndata: [DONE]\n\n"]), expected);
        let many: Vec<_> = std::iter::repeat_n("data: {}\n\n", 10_000).chain([openai]).collect();
        assert_eq!(usage(&many), expected);
        assert_eq!(
            usage(&[r#"{"usage":{"input_tokens":9,"cache_read_input_tokens":null}}"#]),
            Some(Usage { prompt_tokens: 9, cached_tokens: None })
        );
        assert_eq!(usage(&[text]), None);
        assert_eq!(usage(&[r#"{"prompt_tokens": 99999999999}"#]), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut tail = Tail::default();
        for length in [1, 100, 5_000, 2_047, 2_049, 1, 4_096, 3] {
            tail.push(&vec![b'x'; length]);
            assert!(tail.0.len() <= 2 * Tail::BYTES);
        }
        assert!(tail.0.capacity() <= 4 * Tail::BYTES);
    }
}
