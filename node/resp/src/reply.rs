//! Replies to bytes, in either version of the protocol.

use bytes::BytesMut;

/// Version of the protocol, as the client chose it by `HELLO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// What a client gets that says nothing.
    #[default]
    V2,
    /// Has maps, and a null of its own.
    V3,
}

impl Protocol {
    /// Nothing there.
    pub fn null(self, out: &mut BytesMut) {
        out.extend_from_slice(match self {
            Self::V2 => b"$-1\r\n",
            Self::V3 => b"_\r\n",
        });
    }

    /// So many pairs follow: each a key and a value.
    pub fn map(self, out: &mut BytesMut, pairs: usize) {
        match self {
            Self::V2 => count(out, b'*', 2 * pairs as u64),
            Self::V3 => count(out, b'%', pairs as u64),
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// A word, such as `OK`.
pub fn simple(out: &mut BytesMut, word: &str) {
    line(out, b'+', word);
}

/// An error: a code in capitals, and what is wrong. What would end the line early becomes a space.
pub fn error(out: &mut BytesMut, message: &str) {
    line(out, b'-', message);
}

/// A number.
pub fn integer(out: &mut BytesMut, number: u64) {
    count(out, b':', number);
}

/// So many replies follow.
pub fn array(out: &mut BytesMut, items: usize) {
    count(out, b'*', items as u64);
}

/// A string of bytes.
pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    bulk_header(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    bulk_end(out);
}

/// So many bytes follow, and [`bulk_end`] after them.
pub fn bulk_header(out: &mut BytesMut, bytes: u64) {
    count(out, b'$', bytes);
}

/// After the bytes of a string.
pub fn bulk_end(out: &mut BytesMut) {
    out.extend_from_slice(b"\r\n");
}

/// A miss for LMCache's compiled client, which reads exactly as many bytes as the header of the value it expects has: a null
/// would hang it, and a longer or shorter error would have it take what follows for something else.
pub fn miss_as_wide_as(out: &mut BytesMut, bytes: u64) {
    let digits = bytes.to_string().len();
    let word = "MISS".chars().chain(std::iter::repeat(' ')).take(digits);
    line(out, b'-', &word.collect::<String>());
}

fn count(out: &mut BytesMut, kind: u8, number: u64) {
    line(out, kind, &number.to_string());
}

fn line(out: &mut BytesMut, kind: u8, text: &str) {
    out.extend_from_slice(&[kind]);
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}
