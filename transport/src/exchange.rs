//! One request on a stream of its own, from the caller's side. Dropped before its end, it resets the stream, and the handler
//! on the other side is dropped.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use weft_transport_proto::{Frame, ProtocolError, REFUSAL_BYTES_MAX, Refusal, RefusalCode, codes};

use crate::fabric::Core;
use crate::pool::Kept;
use crate::wire::{self, WireError};
use crate::{CallError, Fabric, Target};

/// An open stream and whom it leads to.
#[derive(Debug)]
pub(crate) struct Exchange {
    core: Arc<Core>,
    /// Open for as long as it is used.
    _kept: Arc<Kept>,
    to: Target,
    /// What is asked, for errors.
    what: &'static str,
    send: SendStream,
    pub(crate) recv: RecvStream,
    ended: bool,
}

impl Exchange {
    /// Opens a stream on the target's connection. A pooled connection that turns out to be broken is replaced once: nothing was
    /// sent on it.
    pub(crate) async fn open(fabric: &Fabric, to: &Target, what: &'static str) -> Result<Self, CallError> {
        let connect = |reason: String| CallError::Connect { addr: to.addr, reason };
        let mut retried = false;
        loop {
            let kept = fabric.connection(to).await.map_err(|reason| connect(reason.to_string()))?;
            match kept.connection.open_bi().await {
                Ok((send, recv)) => {
                    return Ok(Self {
                        core: Arc::clone(fabric.core()),
                        _kept: kept,
                        to: to.clone(),
                        what,
                        send,
                        recv,
                        ended: false,
                    });
                }
                Err(ConnectionError::LocallyClosed) if fabric.is_closed() => {
                    return Err(connect("the fabric is closed".to_owned()));
                }
                Err(error) if retried => return Err(connect(error.to_string())),
                Err(_) => retried = true,
            }
        }
    }

    /// Sends the request, all of it.
    pub(crate) async fn send(&mut self, frame: Frame, body: Bytes) -> Result<(), CallError> {
        let written = wire::write(&mut self.send, frame, body).await;
        self.sent(written)
    }

    /// Sends a request that is encoded already.
    pub(crate) async fn send_encoded(&mut self, request: Bytes) -> Result<(), CallError> {
        let written = self.send.write_chunk(request).await;
        self.sent(written)
    }

    /// The server may stop reading a request that it refuses; what it has to say comes on the other half.
    fn sent(&mut self, written: Result<(), WriteError>) -> Result<(), CallError> {
        match written {
            Ok(()) => {
                let _ = self.send.finish();
                Ok(())
            }
            Err(WriteError::Stopped(_)) => Ok(()),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// The next frame. A `Refuse` comes as an error.
    pub(crate) async fn frame(&mut self) -> Result<Frame, CallError> {
        let frame = wire::read_frame(&mut self.recv).await.map_err(|error| self.wire(error))?;
        let Frame::Refuse { code, len } = frame else { return Ok(frame) };
        let text = self.body("refusal", len, REFUSAL_BYTES_MAX).await?;
        self.ended = true;
        Err(self.refused(Refusal { code, message: String::from_utf8_lossy(&text).into_owned() }))
    }

    /// The body of a frame.
    pub(crate) async fn body(&mut self, what: &'static str, len: u64, max: usize) -> Result<Vec<u8>, CallError> {
        wire::read_body(&mut self.recv, what, len, max).await.map_err(|error| self.wire(error))
    }

    /// The exchange has come to its proper end: nothing is left to reset.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> CallError {
        if refusal.code == RefusalCode::Forbidden {
            self.core.refusals.forbidden(self.to.addr, &refusal);
        }
        CallError::Refused { addr: self.to.addr, method: self.what, refusal }
    }

    pub(crate) fn unexpected(&self, expected: &'static str, got: Frame) -> CallError {
        self.protocol(ProtocolError::UnexpectedFrame { expected, got: got.kind() })
    }

    pub(crate) fn protocol(&self, source: ProtocolError) -> CallError {
        CallError::Protocol { addr: self.to.addr, method: self.what, source }
    }

    pub(crate) fn undecodable(&self, source: weft_types::codec::DecodeError) -> CallError {
        CallError::Decode { addr: self.to.addr, method: self.what, source }
    }

    pub(crate) fn lost(&self, error: &ReadError) -> CallError {
        self.broken(error)
    }

    fn broken(&self, error: &dyn Error) -> CallError {
        CallError::Broken { addr: self.to.addr, reason: wire::with_cause(error) }
    }

    fn wire(&self, error: WireError) -> CallError {
        match error {
            WireError::Gone(error) => self.lost(&error),
            WireError::Protocol(error) => self.protocol(error),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.send.reset(codes::CANCELLED.into());
            let _ = self.recv.stop(codes::CANCELLED.into());
        }
    }
}
