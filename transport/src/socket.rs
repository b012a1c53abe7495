//! The UDP socket under a fabric: its buffers, and a cap on what one system call sends.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::crypto::HmacKey;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use crate::profile::Tuning;
use crate::{BindError, Identity};

/// Largest UDP payload that one `sendmsg` takes: 65,535 less IPv4 and UDP headers.
const UDP_PAYLOAD_MAX: usize = 65_507;
/// Most bytes that the kernel coalesces into one receive.
const COALESCED_MAX: usize = 65_536;

/// Binds a socket and puts a QUIC endpoint on it.
pub(crate) fn bind(addr: SocketAddr, tuning: Tuning, identity: &Identity) -> Result<Endpoint, BindError> {
    let bytes = tuning.datagram_bytes_max();
    if !(Tuning::DATAGRAM_BYTES_MIN..=Tuning::DATAGRAM_BYTES_MAX).contains(&bytes) {
        return Err(BindError::DatagramBytes { bytes });
    }
    let mut config = EndpointConfig::new(Arc::new(ResetKey(identity.reset_secret)));
    config.max_udp_payload_size(bytes).expect("checked above");
    let key = cid_key(&identity.reset_secret);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));

    let endpoint = || {
        let runtime = Arc::new(TokioRuntime);
        let socket = runtime.wrap_udp_socket(udp(addr, tuning.profile.socket_buffer_bytes())?)?;
        let socket = Arc::new(Capped { socket, datagram_bytes: usize::from(bytes) });
        Endpoint::new_with_abstract_socket(config, None, socket, runtime)
    };
    endpoint().map_err(|source| BindError::Io { addr, source })
}

fn udp(addr: SocketAddr, buffer_bytes: usize) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    // Above the system's limit only with CAP_NET_ADMIN: try, then take what is given.
    if sockopt::set_socket_recv_buffer_size_force(&socket, buffer_bytes).is_err() {
        socket.set_recv_buffer_size(buffer_bytes)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, buffer_bytes).is_err() {
        socket.set_send_buffer_size(buffer_bytes)?;
    }
    // Linux reports twice the usable size.
    let got = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / 2;
    if got < buffer_bytes {
        warn!(
            %addr, got, wanted = buffer_bytes,
            "socket buffers are smaller than wanted, bursts will be lost; set net.core.rmem_max and net.core.wmem_max to {buffer_bytes}"
        );
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Caps a batch of segments at what one UDP datagram of the kernel holds. Without it quinn hands over ten datagrams at a time;
/// above 6,550 bytes each, `sendmsg` fails with EMSGSIZE, quinn-udp takes that for a failed MTU probe, and every full batch is
/// silently lost.
#[derive(Debug)]
struct Capped {
    socket: Arc<dyn AsyncUdpSocket>,
    datagram_bytes: usize,
}

impl AsyncUdpSocket for Capped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments().min(UDP_PAYLOAD_MAX / self.datagram_bytes)
    }

    /// As many as the kernel coalesces at most: quinn allocates this many datagrams, 32 times over.
    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments().min(COALESCED_MAX.div_ceil(self.datagram_bytes))
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// Signs stateless resets (RFC 9000, section 10.3) with a key that is the same after a restart: a peer that still talks to
/// our earlier life is told at once that its connection is gone, instead of waiting for a timeout.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        // blake3::Hash compares in constant time.
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_| quinn::crypto::CryptoError)?;
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

/// Key by which an endpoint knows its own connection IDs, those of its earlier life too: it resets only these.
fn cid_key(secret: &[u8; 32]) -> u64 {
    let key = blake3::derive_key("weft 2026-11 connection ids", secret);
    let (head, _) = key.split_first_chunk::<8>().expect("32 bytes begin with 8");
    u64::from_le_bytes(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    #[tokio::test]
    async fn a_batch_of_segments_fits_one_datagram_of_the_kernel() {
        let runtime = TokioRuntime;
        for datagram_bytes in [1200, 1452, 8952, 9400] {
            let udp = udp("127.0.0.1:0".parse().unwrap(), Profile::Control.socket_buffer_bytes()).unwrap();
            let socket = Capped { socket: runtime.wrap_udp_socket(udp).unwrap(), datagram_bytes };
            let (send, receive) = (socket.max_transmit_segments(), socket.max_receive_segments());
            assert!(send >= 1 && send * datagram_bytes <= UDP_PAYLOAD_MAX, "{send} of {datagram_bytes}");
            assert!(receive == 1 || receive * datagram_bytes >= COALESCED_MAX, "{receive} of {datagram_bytes}");
        }
    }
}
