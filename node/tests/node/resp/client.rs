//! A client of the RESP door, as plain as can be: it says bytes, and reads replies.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(u64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

pub(crate) struct Client<S>(BufReader<S>);

impl Client<TcpStream> {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    pub(crate) async fn ask(&mut self, words: &[&[u8]]) -> Reply {
        self.say(&request(words)).await;
        self.reply().await
    }

    pub(crate) async fn get(&mut self, key: &str) -> Reply {
        self.ask(&[b"GET", key.as_bytes()]).await
    }

    pub(crate) async fn set(&mut self, key: &str, value: &[u8]) -> Reply {
        self.ask(&[b"SET", key.as_bytes(), value]).await
    }

    pub(crate) async fn exists(&mut self, key: &str) -> bool {
        self.ask(&[b"EXISTS", key.as_bytes()]).await == Reply::Integer(1)
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        let line = self.line().await.unwrap();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().unwrap()),
            "_" => Reply::Null,
            "$" if rest == "-1" => Reply::Null,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes.split_off(bytes.len() - 2), b"\r\n");
                Reply::Bulk(bytes)
            }
            "*" | "%" => {
                let count = rest.parse::<usize>().unwrap() * if kind == "%" { 2 } else { 1 };
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(Box::pin(self.reply()).await);
                }
                Reply::Array(items)
            }
            _ => panic!("no reply: {line:?}"),
        }
    }

    /// A line as it came; `None`: the server has closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.unwrap_or(0);
        (read > 0).then(|| line.strip_suffix("\r\n").unwrap().to_owned())
    }
}

pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub(crate) fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

/// So many bytes, all of which depend on `seed`.
pub(crate) fn value(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..bytes).map(|_| next()).collect()
}
