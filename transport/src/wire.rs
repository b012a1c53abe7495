//! Frames and bodies on quinn's streams.

use std::error::Error;

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use weft_transport_proto::{Frame, ProtocolError};

/// Why the next frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Reset, or the connection is gone.
    #[error("{0}")]
    Gone(#[from] ReadError),
    /// Not what the protocol allows.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// An error and its cause: quinn says "connection lost" and keeps why to the cause.
pub(crate) fn with_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// The next frame's header.
pub(crate) async fn read_frame(recv: &mut RecvStream) -> Result<Frame, WireError> {
    let mut header = [0; Frame::LEN];
    exact(recv, &mut header).await?;
    Ok(Frame::decode(&header)?)
}

/// A body whose header said it has `len` bytes, of which at most `max` are allowed.
pub(crate) async fn read_body(
    recv: &mut RecvStream,
    what: &'static str,
    len: u64,
    max: usize,
) -> Result<Vec<u8>, WireError> {
    let allowed = usize::try_from(len).ok().filter(|len| *len <= max);
    let len = allowed.ok_or(ProtocolError::TooLong { what, len, max: max as u64 })?;
    let mut body = vec![0; len];
    exact(recv, &mut body).await?;
    Ok(body)
}

/// A frame and its body, which is not copied.
pub(crate) async fn write(send: &mut SendStream, frame: Frame, body: Bytes) -> Result<(), WriteError> {
    send.write_all_chunks(&mut [Bytes::copy_from_slice(&frame.encode()), body]).await
}

async fn exact(recv: &mut RecvStream, buffer: &mut [u8]) -> Result<(), WireError> {
    recv.read_exact(buffer).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => ProtocolError::Truncated.into(),
        ReadExactError::ReadError(error) => error.into(),
    })
}
