//! Bytes to commands.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $3\r\nkey\r\n $5\r\n          ─► Item::Set { key, bytes: 5 }
//! value                                            ─► Item::Chunk, one or more
//! \r\n                                             ─► Item::SetEnd { options: [] }
//! *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n                 ─► Item::Command([GET, key])
//! PING\r\n                                         ─► Item::Command([PING]): typed by hand
//! ```

use bytes::{Bytes, BytesMut};

/// Arguments of a command: 1,024, more keys than a batch of any client has.
pub const ARGUMENTS_MAX: usize = 1024;

/// Bytes of an argument that is not the value of a `SET`: 64 KiB. Keys are a hundred or two.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;

/// Bytes of all such arguments of a command: 1 MiB.
pub const ARGUMENTS_BYTES_MAX: usize = 1 << 20;

/// Bytes of a value: 512 MiB, the bound of Redis itself.
pub const VALUE_BYTES_MAX: u64 = 512 << 20;

/// Bytes of a line that says how many there are of something: a type, 20 digits, and the line's end.
const COUNT_LINE_MAX: usize = 23;

/// Bytes of a command typed by hand.
const INLINE_MAX: usize = 4096;

/// What a client says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A whole command: its name and arguments, at least one.
    Command(Vec<Bytes>),
    /// A `SET` begins, whose value has so many bytes: they follow in chunks.
    Set {
        /// To be set.
        key: Bytes,
        /// Of the value.
        bytes: u64,
    },
    /// The next bytes of the value, at least one.
    Chunk(Bytes),
    /// The `SET` is whole.
    SetEnd {
        /// What followed the value.
        options: Vec<Bytes>,
    },
}

/// What was received is not the protocol, or beyond its bounds. The connection cannot be continued.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Something else than the type that has to come.
    #[error("expected '{expected}', got byte {got}")]
    Expected {
        /// The type, or the end of a line.
        expected: char,
        /// What came.
        got: u8,
    },
    /// Not a number, or a negative one.
    #[error("invalid {0} length")]
    Count(&'static str),
    /// More than is taken.
    #[error("too big {what}: {got}, at most {max}")]
    TooBig {
        /// What is bounded.
        what: &'static str,
        /// As announced.
        got: u64,
        /// The bound.
        max: u64,
    },
}

/// The reading side of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    arguments: Vec<Bytes>,
    arguments_bytes: usize,
    /// The arguments are options of a `SET` whose value has come.
    in_set: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Between,
    /// So many arguments are to come.
    Arguments(usize),
    /// An argument of so many bytes, and so many more after it.
    Argument { bytes: usize, then: usize },
    /// So many bytes of a value, and so many arguments after it.
    Value { bytes: u64, then: usize },
}

impl Decoder {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing of a command has been taken yet.
    #[must_use]
    pub fn is_between_commands(&self) -> bool {
        self.state == State::Between
    }

    /// Takes the next item from the front of `input`; `None` when it needs more bytes.
    ///
    /// # Errors
    /// What is there is not the protocol. Whoever calls again gets nothing that could be relied on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Item>, ProtocolError> {
        loop {
            let item = match self.state {
                State::Between => match input.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = take_count(input, b'*', "multibulk")? else { return Ok(None) };
                        // Redis passes over what has no arguments.
                        let count = usize::try_from(count).unwrap_or(0);
                        bounded("number of arguments", count as u64, ARGUMENTS_MAX as u64)?;
                        if count > 0 {
                            self.state = State::Arguments(count);
                        }
                        None
                    }
                    Some(_) => match take_inline(input)? {
                        None => return Ok(None),
                        Some(words) => Some(words).filter(|words| !words.is_empty()).map(Item::Command),
                    },
                },
                State::Arguments(0) => Some(self.end()),
                State::Arguments(left) => match take_count(input, b'$', "bulk")? {
                    None => return Ok(None),
                    Some(bytes) => self.begin_argument(bytes, left - 1)?,
                },
                State::Argument { bytes, then } => {
                    if input.len() < bytes + 2 {
                        return Ok(None);
                    }
                    let argument = input.split_to(bytes).freeze();
                    take_line_end(input)?;
                    self.arguments.push(argument);
                    self.state = State::Arguments(then);
                    None
                }
                State::Value { bytes: 0, then } => {
                    if input.len() < 2 {
                        return Ok(None);
                    }
                    take_line_end(input)?;
                    self.state = State::Arguments(then);
                    None
                }
                State::Value { bytes, then } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let here = input.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
                    self.state = State::Value { bytes: bytes - here as u64, then };
                    Some(Item::Chunk(input.split_to(here).freeze()))
                }
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn begin_argument(&mut self, bytes: i64, then: usize) -> Result<Option<Item>, ProtocolError> {
        let bytes = u64::try_from(bytes).map_err(|_| ProtocolError::Count("bulk"))?;
        if !self.in_set && self.arguments.len() == 2 && self.arguments[0].eq_ignore_ascii_case(b"set") {
            bounded("value", bytes, VALUE_BYTES_MAX)?;
            let key = self.arguments.swap_remove(1);
            self.arguments.clear();
            (self.in_set, self.state) = (true, State::Value { bytes, then });
            return Ok(Some(Item::Set { key, bytes }));
        }
        bounded("argument", bytes, ARGUMENT_BYTES_MAX as u64)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.arguments_bytes += bytes;
        bounded("command", self.arguments_bytes as u64, ARGUMENTS_BYTES_MAX as u64)?;
        self.state = State::Argument { bytes, then };
        Ok(None)
    }

    fn end(&mut self) -> Item {
        let arguments = std::mem::take(&mut self.arguments);
        let in_set = std::mem::take(&mut self.in_set);
        (self.state, self.arguments_bytes) = (State::Between, 0);
        if in_set { Item::SetEnd { options: arguments } } else { Item::Command(arguments) }
    }
}

fn bounded(what: &'static str, got: u64, max: u64) -> Result<(), ProtocolError> {
    if got <= max { Ok(()) } else { Err(ProtocolError::TooBig { what, got, max }) }
}

/// Takes `*3\r\n` or `$3\r\n`; `None` when it is not whole.
fn take_count(input: &mut BytesMut, kind: u8, what: &'static str) -> Result<Option<i64>, ProtocolError> {
    let Some(first) = input.first().copied() else { return Ok(None) };
    if first != kind {
        return Err(ProtocolError::Expected { expected: char::from(kind), got: first });
    }
    let Some(end) = input.iter().take(COUNT_LINE_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() < COUNT_LINE_MAX { Ok(None) } else { Err(ProtocolError::Count(what)) };
    };
    let line = input.split_to(end + 1);
    let digits = line[1..].strip_suffix(b"\r\n").ok_or(ProtocolError::Count(what))?;
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or(ProtocolError::Count(what))
}

/// Takes a line typed by hand, as words; `None` when it is not whole.
fn take_inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some(end) = input.iter().take(INLINE_MAX).position(|byte| *byte == b'\n') else {
        return bounded("line", input.len() as u64, INLINE_MAX as u64 - 1).map(|()| None);
    };
    let line = input.split_to(end + 1).freeze();
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(Some(words.map(|word| line.slice_ref(word)).collect()))
}

fn take_line_end(input: &mut BytesMut) -> Result<(), ProtocolError> {
    let end = input.split_to(2);
    match (end[0], end[1]) {
        (b'\r', b'\n') => Ok(()),
        (b'\r', got) => Err(ProtocolError::Expected { expected: '\n', got }),
        (got, _) => Err(ProtocolError::Expected { expected: '\r', got }),
    }
}
