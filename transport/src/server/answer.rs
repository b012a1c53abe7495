//! Answering one stream: which request, may this peer make it, is there room, and what the handler says.

use std::future::Future;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::error;
use weft_transport_proto::{BlockRefusal, FETCH_BLOCKS_MAX, Frame, ProtocolError, Refusal, RefusalCode, Serve, codes};
use weft_types::{BlockHash, Role};

use super::{REQUEST_MAX, Served};
use crate::BlockSource;
use crate::routes::{Handler, Route};
use crate::subscription::Sink;
use crate::wire::{self, WireError};

/// How an answer ended that was not refused.
enum Outcome {
    Ok,
    /// The caller went before it was done.
    Gone,
}

impl Served {
    /// Answers a stream.
    ///
    /// # Errors
    /// The peer broke the protocol; the stream is reset.
    pub(super) async fn answer(&self, mut send: SendStream, mut recv: RecvStream) -> Result<(), ProtocolError> {
        let answered = tokio::time::timeout(REQUEST_MAX, wire::read_frame(&mut recv)).await;
        let frame = match answered {
            Ok(Ok(frame)) => frame,
            Ok(Err(WireError::Protocol(fault))) => return broken(&mut send, &mut recv, fault),
            Ok(Err(WireError::Gone(_))) | Err(_) => return Ok(()),
        };
        match frame {
            Frame::Call { method, len } => self.call(send, recv, method, len).await,
            Frame::Subscribe { method, len } => self.subscribe(send, recv, method, len).await,
            Frame::Fetch { blocks, block_bytes } => self.fetch(send, recv, blocks, block_bytes).await,
            other => {
                let fault = ProtocolError::UnexpectedFrame { expected: "Call, Subscribe or Fetch", got: other.kind() };
                return broken(&mut send, &mut recv, fault);
            }
        }
        Ok(())
    }

    async fn call(&self, mut send: SendStream, mut recv: RecvStream, method: u16, len: u64) {
        let answering = async {
            let _room = self.room(&self.server.calls, "calls")?;
            let route = self.route(method)?;
            let Handler::Call(handler) = &route.handler else { return Err(wrong_kind(route, "subscribe to")) };
            let body = request(&mut recv, route.name, len, route.request_bytes_max).await?;
            handler(self.peer.clone(), &body).await
        };
        let outcome = match unless_gone(send.stopped(), answering).await {
            None => Ok(Outcome::Gone),
            Some(Ok(response)) => reply(&mut send, response.into()).await,
            Some(Err(refusal)) => {
                refuse(&mut send, &refusal).await;
                Err(refusal)
            }
        };
        self.count("call", &outcome);
    }

    async fn subscribe(&self, send: SendStream, mut recv: RecvStream, method: u16, len: u64) {
        let outcome = self.subscribed(send, &mut recv, method, len).await;
        self.count("subscribe", &outcome);
    }

    async fn subscribed(
        &self,
        mut send: SendStream,
        recv: &mut RecvStream,
        method: u16,
        len: u64,
    ) -> Result<Outcome, Refusal> {
        let opening = async {
            let room = self.room(&self.server.subscriptions, "subscriptions")?;
            let route = self.route(method)?;
            let Handler::Subscription(handler) = &route.handler else { return Err(wrong_kind(route, "call")) };
            Ok((room, handler, request(recv, route.name, len, route.request_bytes_max).await?))
        };
        let (_room, handler, body) = match unless_gone(send.stopped(), opening).await {
            None => return Ok(Outcome::Gone),
            Some(Ok(opened)) => opened,
            Some(Err(refusal)) => return refused(send, refusal).await,
        };
        if wire::write(&mut send, Frame::Accept, Bytes::new()).await.is_err() {
            return Ok(Outcome::Gone);
        }
        let stopped = send.stopped();
        let (handling, back) = match handler(self.peer.clone(), &body, Sink::Stream(send)) {
            Ok(begun) => begun,
            Err((sink, refusal)) => return refused(stream(sink), refusal).await,
        };
        // The stream does not come back if an item was abandoned half sent.
        let ending = async { (handling.await, back.await) };
        match unless_gone(stopped, ending).await {
            None | Some((Ok(()), Err(_))) => Ok(Outcome::Gone),
            Some((Err(refusal), Err(_))) => Err(refusal),
            Some((Err(refusal), Ok(sink))) => refused(stream(sink), refusal).await,
            Some((Ok(()), Ok(sink))) => {
                let mut send = stream(sink);
                let written = wire::write(&mut send, Frame::Done, Bytes::new()).await;
                Ok(ended(&mut send, written.is_ok()))
            }
        }
    }

    async fn fetch(&self, mut send: SendStream, mut recv: RecvStream, blocks: u32, block_bytes: u64) {
        let opening = async {
            let room = self.room(&self.server.fetches, "fetches")?;
            let unserved = || Refusal::new(RefusalCode::UnknownMethod, "no blocks are served here");
            let route = self.server.routes.blocks.as_ref().ok_or_else(unserved)?;
            self.allow("fetch", route.roles)?;
            let len = u64::from(blocks) * BlockHash::LEN as u64;
            let hashes = request(&mut recv, "fetch", len, FETCH_BLOCKS_MAX * BlockHash::LEN).await?;
            let session = Serve::new(blocks, block_bytes, hashes.into());
            let bad = |error: ProtocolError| Refusal::new(RefusalCode::BadRequest, error.to_string());
            Ok((room, session.map_err(bad)?, &*route.source))
        };
        let outcome = match unless_gone(send.stopped(), opening).await {
            None => Ok(Outcome::Gone),
            Some(Ok((_room, session, source))) => Ok(self.stream_blocks(&mut send, session, source).await),
            Some(Err(refusal)) => refused(send, refusal).await,
        };
        self.count("fetch", &outcome);
    }

    async fn stream_blocks(&self, send: &mut SendStream, mut session: Serve, source: &dyn BlockSource) -> Outcome {
        while let Some(block) = session.poll_wanted() {
            let mut read = source.read(&self.peer, &block, session.block_bytes());
            if matches!(read, Err(BlockRefusal::Gone)) {
                let bringing = source.bring(&self.peer, &block, session.block_bytes());
                let Some(brought) = unless_gone(send.stopped(), bringing).await else { return Outcome::Gone };
                read = brought;
            }
            if let Err(fault) = session.handle_block(read.map(|block| (block.bytes, block.checksum))) {
                error!(peer = %self.peer, "{fault}; the peer was told that the layout differs");
            }
            while let Some(bytes) = session.poll_transmit() {
                if send.write_chunk(bytes).await.is_err() {
                    return Outcome::Gone;
                }
            }
        }
        ended(send, true)
    }

    fn route(&self, method: u16) -> Result<&Route, Refusal> {
        let unknown = || {
            let message = format!("no method {method} here; the caller is of a later release, or took a wrong address");
            Refusal::new(RefusalCode::UnknownMethod, message)
        };
        let route = self.server.routes.methods.get(&method).ok_or_else(unknown)?;
        self.allow(route.name, route.roles)?;
        Ok(route)
    }

    fn allow(&self, what: &str, roles: &[Role]) -> Result<(), Refusal> {
        if roles.contains(&self.peer.role) {
            return Ok(());
        }
        let allowed: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        let message = format!(
            "{what} was asked by {}; expected a certificate of role {}: issue one with `weft certs issue`",
            self.peer,
            allowed.join(" or "),
        );
        let refusal = Refusal::new(RefusalCode::Forbidden, message);
        self.server.core.refusals.forbade(self.connection.remote_address(), &self.peer, &refusal);
        Err(refusal)
    }

    fn room<'a>(&self, semaphore: &'a Semaphore, what: &str) -> Result<SemaphorePermit<'a>, Refusal> {
        let full =
            || Refusal::new(RefusalCode::Overloaded, format!("too many {what} at a time; try later or elsewhere"));
        semaphore.try_acquire().map_err(|_| full())
    }

    fn count(&self, kind: &str, outcome: &Result<Outcome, Refusal>) {
        let word = match outcome {
            Ok(Outcome::Ok) => "ok",
            Ok(Outcome::Gone) => "gone",
            Err(refusal) => refusal.code.as_str(),
        };
        self.server.core.metrics.served.with_label_values(&[kind, word]).inc();
    }
}

/// A request's body. One that does not arrive is its caller's affair; one that is too long is refused.
async fn request(recv: &mut RecvStream, what: &'static str, len: u64, max: usize) -> Result<Vec<u8>, Refusal> {
    let bad = |message: String| Refusal::new(RefusalCode::BadRequest, message);
    let read = tokio::time::timeout(REQUEST_MAX, wire::read_body(recv, "request", len, max)).await;
    let body = read.map_err(|_| bad(format!("{what}: the request did not arrive within {REQUEST_MAX:?}")))?;
    body.map_err(|error| bad(format!("{what}: {error}")))
}

/// `work`, unless the caller goes first: then it is dropped.
async fn unless_gone<T>(gone: impl Future, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = gone => None,
    }
}

async fn reply(send: &mut SendStream, response: Bytes) -> Result<Outcome, Refusal> {
    let written = wire::write(send, Frame::Reply { len: response.len() as u64 }, response).await;
    Ok(ended(send, written.is_ok()))
}

async fn refused(mut send: SendStream, refusal: Refusal) -> Result<Outcome, Refusal> {
    refuse(&mut send, &refusal).await;
    Err(refusal)
}

async fn refuse(send: &mut SendStream, refusal: &Refusal) {
    let text = Bytes::copy_from_slice(refusal.wire_text().as_bytes());
    let written = wire::write(send, Frame::Refuse { code: refusal.code, len: text.len() as u64 }, text).await;
    ended(send, written.is_ok());
}

/// The stream that a subscription was begun with.
fn stream(sink: Sink) -> SendStream {
    match sink {
        Sink::Stream(send) => send,
        #[cfg(feature = "testing")]
        Sink::Memory(_) => unreachable!("this server's subscriptions are on streams"),
    }
}

fn ended(send: &mut SendStream, written: bool) -> Outcome {
    if written && send.finish().is_ok() { Outcome::Ok } else { Outcome::Gone }
}

fn broken(send: &mut SendStream, recv: &mut RecvStream, fault: ProtocolError) -> Result<(), ProtocolError> {
    let _ = send.reset(codes::PROTOCOL.into());
    let _ = recv.stop(codes::PROTOCOL.into());
    Err(fault)
}

fn wrong_kind(route: &Route, instead: &str) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, format!("{}: this is a method to {instead}", route.name))
}
