//! Both ends of a subscription. QUIC's window on its stream is the only buffer: a subscriber that does not read stops its
//! publisher.

use std::marker::PhantomData;
use std::mem;

use quinn::SendStream;
use tokio::sync::oneshot;
use weft_transport_proto::{Frame, ProtocolError, REFUSAL_BYTES_MAX, Refusal, RefusalCode, codes};
use weft_types::rpc::Message;

use crate::CallError;
use crate::exchange::Exchange;
use crate::wire;

/// Items of a subscription, in the order they were published. Dropping it ends the subscription, and the handler on the other
/// side is dropped.
#[derive(Debug)]
pub struct Subscription<T> {
    source: Source,
    /// Nothing comes after the end, or after an error.
    ended: bool,
    _item: PhantomData<fn() -> T>,
}

/// Where items come from.
#[derive(Debug)]
enum Source {
    Stream(Stream),
    #[cfg(feature = "testing")]
    Memory(crate::memory::Inlet),
}

/// A QUIC stream of them.
#[derive(Debug)]
struct Stream {
    exchange: Exchange,
    item_bytes_max: usize,
    expected: Expected,
    /// What has arrived of it: a dropped `next` loses nothing.
    partial: Vec<u8>,
}

/// Where items go.
#[derive(Debug)]
pub(crate) enum Sink {
    Stream(SendStream),
    #[cfg(feature = "testing")]
    Memory(crate::memory::Outlet),
}

/// What comes next on the stream.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Header,
    Item { len: usize },
    Refusal { code: RefusalCode, len: usize },
    Done,
}

/// Server side of a subscription.
#[derive(Debug)]
pub struct Publisher<T> {
    /// `None` only while it is being dropped.
    send: Option<Sink>,
    /// Where the stream goes back to, for its last frame.
    home: Option<oneshot::Sender<Sink>>,
    /// An item was begun and not finished: no frame can follow.
    torn: bool,
    item_bytes_max: usize,
    _item: PhantomData<fn(&T)>,
}

/// Why an item was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The subscriber has gone, or the connection to it.
    #[error("the subscriber is gone: {0}")]
    Gone(String),
    /// The item is longer than its method allows. Nothing was sent.
    #[error("item of {len} bytes: at most {max} allowed; split it")]
    TooLong {
        /// Its length.
        len: usize,
        /// `Method::RESPONSE_BYTES_MAX`.
        max: usize,
    },
    /// An earlier `publish` was dropped before its item was sent whole: the stream is unusable.
    #[error("an earlier item was abandoned half sent")]
    Torn,
}

impl<T: Message> Subscription<T> {
    pub(crate) fn new(exchange: Exchange, item_bytes_max: usize) -> Self {
        Self::of(Source::Stream(Stream { exchange, item_bytes_max, expected: Expected::Header, partial: Vec::new() }))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn in_memory(inlet: crate::memory::Inlet) -> Self {
        Self::of(Source::Memory(inlet))
    }

    fn of(source: Source) -> Self {
        Self { source, ended: false, _item: PhantomData }
    }

    /// The next item; `None` when the publisher ended it properly, and ever after. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, the handler refused, or the peer broke the protocol. Nothing comes after an error.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        if self.ended {
            return Ok(None);
        }
        let outcome = self.read().await;
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome
    }

    async fn read(&mut self) -> Result<Option<T>, CallError> {
        let item = match &mut self.source {
            Source::Stream(stream) => stream.item().await?,
            #[cfg(feature = "testing")]
            Source::Memory(inlet) => inlet.item().await?,
        };
        item.map(|item| T::decode(&item)).transpose().map_err(|error| match &self.source {
            Source::Stream(stream) => stream.exchange.undecodable(error),
            #[cfg(feature = "testing")]
            Source::Memory(inlet) => inlet.undecodable(error),
        })
    }
}

impl Stream {
    async fn item(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        loop {
            match self.expected {
                Expected::Header => {
                    let header = self.gather(Frame::LEN).await?;
                    let header = header.as_slice().try_into().expect("gathered as many");
                    let frame = Frame::decode(header).map_err(|error| self.exchange.protocol(error))?;
                    self.expected = self.after(frame)?;
                }
                Expected::Item { len } => {
                    let item = self.gather(len).await?;
                    self.expected = Expected::Header;
                    return Ok(Some(item));
                }
                Expected::Refusal { code, len } => {
                    let text = self.gather(len).await?;
                    self.exchange.end();
                    let message = String::from_utf8_lossy(&text).into_owned();
                    return Err(self.exchange.refused(Refusal { code, message }));
                }
                Expected::Done => return Ok(None),
            }
        }
    }

    fn after(&mut self, frame: Frame) -> Result<Expected, CallError> {
        let bounded = |what, len: u64, max: usize| {
            let allowed = usize::try_from(len).ok().filter(|len| *len <= max);
            allowed.ok_or(ProtocolError::TooLong { what, len, max: max as u64 })
        };
        match frame {
            Frame::Reply { len } => bounded("item", len, self.item_bytes_max).map(|len| Expected::Item { len }),
            Frame::Refuse { code, len } => {
                bounded("refusal", len, REFUSAL_BYTES_MAX).map(|len| Expected::Refusal { code, len })
            }
            Frame::Done => {
                self.exchange.end();
                Ok(Expected::Done)
            }
            other => Err(ProtocolError::UnexpectedFrame { expected: "Reply, Done or Refuse", got: other.kind() }),
        }
        .map_err(|error| self.exchange.protocol(error))
    }

    /// The next `len` bytes, once all are there.
    async fn gather(&mut self, len: usize) -> Result<Vec<u8>, CallError> {
        while self.partial.len() < len {
            match self.exchange.recv.read_chunk(len - self.partial.len(), true).await {
                Ok(Some(chunk)) => self.partial.extend_from_slice(&chunk.bytes),
                Ok(None) => return Err(self.exchange.protocol(ProtocolError::Truncated)),
                Err(error) => return Err(self.exchange.lost(&error)),
            }
        }
        Ok(mem::take(&mut self.partial))
    }
}

impl<T: Message> Publisher<T> {
    /// A publisher, and where its stream comes back when it is dropped; it does not if an item was left half sent.
    pub(crate) fn new(send: Sink, item_bytes_max: usize) -> (Self, oneshot::Receiver<Sink>) {
        let (home, back) = oneshot::channel();
        (Self { send: Some(send), home: Some(home), torn: false, item_bytes_max, _item: PhantomData }, back)
    }

    /// Sends one item; waits while the subscriber's window is full. Dropped before it is done, it breaks the subscription
    /// off, since half an item cannot be taken back.
    ///
    /// # Errors
    /// The subscriber is gone, or the item is too long.
    pub async fn publish(&mut self, item: &T) -> Result<(), PublishError> {
        if self.torn {
            return Err(PublishError::Torn);
        }
        let body = item.encode();
        if body.len() > self.item_bytes_max {
            return Err(PublishError::TooLong { len: body.len(), max: self.item_bytes_max });
        }
        let send = self.send.as_mut().expect("there until dropped");
        self.torn = true;
        match send {
            Sink::Stream(send) => {
                let written = wire::write(send, Frame::Reply { len: body.len() as u64 }, body.into()).await;
                written.map_err(|error| PublishError::Gone(wire::with_cause(&error)))?;
            }
            #[cfg(feature = "testing")]
            Sink::Memory(outlet) => outlet.item(body).await.map_err(PublishError::Gone)?,
        }
        self.torn = false;
        Ok(())
    }

    /// Resolves when the subscriber has gone. The handler need not wait for it: it is dropped then.
    pub async fn closed(&mut self) {
        match self.send.as_ref().expect("there until dropped") {
            Sink::Stream(send) => drop(send.stopped().await),
            #[cfg(feature = "testing")]
            Sink::Memory(outlet) => outlet.closed().await,
        }
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        let (Some(send), Some(home)) = (self.send.take(), self.home.take()) else { return };
        match send {
            Sink::Stream(mut send) if self.torn => drop(send.reset(codes::TORN.into())),
            send => drop(home.send(send)),
        }
    }
}
