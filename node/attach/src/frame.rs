//! Frames of the unix socket, and the descriptors that ride on them.
//!
//! ```text
//!   0        4       6            8        12
//!   ┌────────┬───────┬────────────┬────────┬──────────┐
//!   │ length │ kind  │descriptors │ call   │ message… │   little-endian; length counts the message only
//!   │ u32    │ u16   │ u16        │ u32    │          │
//!   └────────┴───────┴────────────┴────────┴──────────┘
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use weft_types::codec::DecodeError;

use crate::Kind;

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 12;

/// Largest message: 1 MiB, twice the longest list of blocks ([`crate::BLOCKS_PER_MESSAGE_MAX`] of 32 bytes).
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// Descriptors that can ride on one frame: a region's two.
const DESCRIPTORS_MAX: usize = 2;

/// One message, as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Number of its [`Kind`]; it may be one we do not know.
    pub kind: u16,
    /// Call that it opens or answers; 0 for none.
    pub call: u32,
    /// The encoded message.
    pub message: Vec<u8>,
}

/// Why no frame came, or none went.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side closed between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the engine socket failed: {0}")]
    Io(#[from] io::Error),
    /// A length beyond the bound.
    #[error("a frame announces {length} bytes: at most {MESSAGE_BYTES_MAX} expected; is the other side weft?")]
    TooLong {
        /// Announced.
        length: u32,
    },
    /// Fewer descriptors arrived than the header announces.
    #[error("a frame announces {announced} descriptors, {arrived} arrived: is the process out of descriptors?")]
    Descriptors {
        /// In the header.
        announced: u16,
        /// In the control message.
        arrived: usize,
    },
    /// A message that is not what its kind says.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// A message that makes no sense now.
    #[error("message of kind {kind} was not expected here")]
    Unexpected {
        /// Its number.
        kind: u16,
    },
}

impl Frame {
    /// A frame around an encoded message.
    #[must_use]
    pub fn new((kind, message): (Kind, Vec<u8>), call: u32) -> Self {
        Self { kind: kind as u16, call, message }
    }

    fn header(&self, descriptors: usize) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.message.len()).expect("messages are bounded far below 4 GiB");
        let descriptors = u16::try_from(descriptors).expect("at most two descriptors");
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4..6].copy_from_slice(&self.kind.to_le_bytes());
        header[6..8].copy_from_slice(&descriptors.to_le_bytes());
        header[8..12].copy_from_slice(&self.call.to_le_bytes());
        header
    }
}

/// The fixed part of a frame.
struct Header {
    length: u32,
    kind: u16,
    descriptors: u16,
    call: u32,
}

impl Header {
    fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, k0, k1, d0, d1, c0, c1, c2, c3] = bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong { length });
        }
        Ok(Self {
            length,
            kind: u16::from_le_bytes([k0, k1]),
            descriptors: u16::from_le_bytes([d0, d1]),
            call: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }

    async fn body(self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FrameError> {
        let mut message = vec![0; self.length as usize];
        stream.read_exact(&mut message).await?;
        Ok(Frame { kind: self.kind, call: self.call, message })
    }
}

/// Reads frames, buffered, after the handshake. Not cancellation-safe: one task reads until the end.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: tokio::io::BufReader<R>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream: tokio::io::BufReader::new(stream) }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The other side closed, the socket failed, or what came is no frame.
    pub async fn read(&mut self) -> Result<Frame, FrameError> {
        let mut header = [0; HEADER_BYTES];
        if self.stream.read(&mut header[..1]).await? == 0 {
            return Err(FrameError::Closed);
        }
        self.stream.read_exact(&mut header[1..]).await?;
        Header::parse(header)?.body(&mut self.stream).await
    }
}

/// Writes frames after the handshake: collects them, and sends what was collected in one go.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    pending: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Adds a frame to those collected.
    pub fn push(&mut self, frame: &Frame) {
        self.pending.extend_from_slice(&frame.header(0));
        self.pending.extend_from_slice(&frame.message);
    }

    /// Bytes collected.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Sends what was collected.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.stream.write_all(&self.pending).await?;
        self.pending.clear();
        Ok(())
    }
}

/// Sends one frame with descriptors attached to its first byte. Part of the handshake.
///
/// # Errors
/// The socket failed.
pub async fn send_with_descriptors(
    stream: &mut UnixStream,
    frame: &Frame,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let header = frame.header(descriptors.len());
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            Ok(sendmsg(&*stream, &[IoSlice::new(&header)], &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    stream.write_all(&header[sent..]).await?;
    stream.write_all(&frame.message).await?;
    Ok(())
}

/// Receives one frame and the descriptors that came with it. Part of the handshake: it reads no byte beyond the frame.
///
/// # Errors
/// The other side closed, the socket failed, or what came is no frame.
pub async fn recv_with_descriptors(stream: &mut UnixStream) -> Result<(Frame, Vec<OwnedFd>), FrameError> {
    let mut header = [0; HEADER_BYTES];
    let (received, descriptors) = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut header)];
            let received = recvmsg(&*stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let rights = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            });
            Ok((received.bytes, rights.flatten().collect::<Vec<_>>()))
        })
        .await?;
    if received == 0 {
        return Err(FrameError::Closed);
    }
    stream.read_exact(&mut header[received..]).await?;
    let header = Header::parse(header)?;
    if usize::from(header.descriptors) != descriptors.len() {
        return Err(FrameError::Descriptors { announced: header.descriptors, arrived: descriptors.len() });
    }
    Ok((header.body(stream).await?, descriptors))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, fstat, memfd_create};

    use super::*;

    #[tokio::test]
    async fn descriptors_arrive_with_their_frame_and_plain_frames_follow() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let memfds = [memfd_create("a", MemfdFlags::CLOEXEC).unwrap(), memfd_create("b", MemfdFlags::CLOEXEC).unwrap()];
        let inodes = memfds.each_ref().map(|memfd| fstat(memfd).unwrap().st_ino);
        let first = Frame { kind: Kind::Welcome as u16, call: 1, message: vec![7; 100_000] };
        let second = Frame { kind: 999, call: 0, message: Vec::new() };

        let received = tokio::spawn(async move {
            let (frame, descriptors) = recv_with_descriptors(&mut there).await.unwrap();
            let mut reader = FrameReader::new(there);
            let inodes: Vec<_> = descriptors.iter().map(|memfd| fstat(memfd).unwrap().st_ino).collect();
            (frame, inodes, reader.read().await.unwrap(), reader.read().await)
        });
        send_with_descriptors(&mut here, &first, &memfds.each_ref().map(AsFd::as_fd)).await.unwrap();
        let mut writer = FrameWriter::new(here);
        writer.push(&second);
        writer.flush().await.unwrap();
        drop(writer);

        let (frame, arrived, next, end) = received.await.unwrap();
        assert_eq!((frame, arrived, next), (first, inodes.to_vec(), second));
        assert!(matches!(end, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_stranger_on_the_socket_is_refused_before_memory_is_taken() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert!(matches!(FrameReader::new(there).read().await, Err(FrameError::TooLong { .. })));
    }
}
