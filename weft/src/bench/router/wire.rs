//! HTTP/1.1 as raw bytes, one message after the other on a socket: what plays client and engine must cost less than what is
//! between them.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The end of a body in chunks. Bodies of this bench have it nowhere else.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A connection, and what came on it.
pub(super) struct Wire {
    socket: TcpStream,
    bytes: Vec<u8>,
}

/// A message that is whole.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) head: &'a [u8],
    /// With the lengths of its chunks, if it has any.
    pub(super) body: &'a [u8],
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, bytes: Vec::with_capacity(32 << 10) })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// The next message; `None`: there is none, the other side is done. Nobody here sends one before the last was answered.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message<'_>>> {
        self.receive_in_pieces(|_| {}).await
    }

    /// The same. `arrived` is shown each piece of the body as it comes, with the byte before it.
    pub(super) async fn receive_in_pieces(
        &mut self,
        mut arrived: impl FnMut(&[u8]),
    ) -> io::Result<Option<Message<'_>>> {
        self.bytes.clear();
        let head = loop {
            if let Some(at) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.socket.read_buf(&mut self.bytes).await? == 0 {
                return match self.bytes.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let length = Length::of(&self.bytes[..head]);
        arrived(&self.bytes[head..]);
        while !length.is_reached(&self.bytes, head) {
            let before = self.bytes.len();
            if self.socket.read_buf(&mut self.bytes).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            arrived(&self.bytes[(before - 1).max(head)..]);
        }
        let (head, body) = self.bytes.split_at(head);
        Ok(Some(Message { head, body }))
    }
}

impl Message<'_> {
    /// Of an answer.
    pub(super) fn is_ok(&self) -> bool {
        self.head.starts_with(b"HTTP/1.1 200")
    }
}

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    Bytes(usize),
    Chunks,
}

impl Length {
    fn of(head: &[u8]) -> Self {
        for line in head.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Self::Chunks;
            }
            if name.eq_ignore_ascii_case(b"content-length") {
                return Self::Bytes(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0));
            }
        }
        Self::Bytes(0)
    }

    fn is_reached(self, bytes: &[u8], head: usize) -> bool {
        match self {
            Self::Bytes(length) => bytes.len() >= head + length,
            Self::Chunks => bytes[head - 2..].ends_with(LAST_CHUNK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        assert_eq!(Length::of(b"GET / HTTP/1.1\r\nhost: x:1\r\n\r\n"), Length::Bytes(0));
        let counted = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(Length::of(counted), Length::Bytes(3));
        assert!(Length::Bytes(3).is_reached(counted, counted.len() - 3));
        assert!(!Length::Bytes(4).is_reached(counted, counted.len() - 3));
        let (head, chunks) = (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n");
        assert_eq!(Length::of(head), Length::Chunks);
        for end in 0..=chunks.len() {
            let bytes = [&head[..], &chunks[..end]].concat();
            assert_eq!(Length::Chunks.is_reached(&bytes, head.len()), end == chunks.len(), "{end}");
        }
        assert!(Length::Chunks.is_reached(&[&head[..], b"0\r\n\r\n"].concat(), head.len()));
    }
}
