//! quinn with its best settings and nothing else: what a fetch is measured against. No client certificate, no checksum, no
//! protocol; the settings are those that were found fastest on loopback.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, UdpPoller, VarInt,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Size;
use super::side::{Fetched, Side};

/// UDP payload: a 9,000-byte frame less its headers.
const DATAGRAM_BYTES: u16 = 8952;
/// Datagrams of one system call: what one UDP datagram of the kernel holds.
const SEGMENTS: usize = 65_507 / DATAGRAM_BYTES as usize;
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
const STREAM_WINDOW: u32 = 32 << 20;
const CONNECTION_WINDOW: u32 = 128 << 20;
const NAME: &str = "bench";

/// A server and a client with one connection.
pub(super) struct Raw {
    sender: Side,
    receiver: Side,
    connection: Connection,
    /// Where blocks are copied to, one after the other.
    slots: Arc<Vec<Mutex<Vec<u8>>>>,
    source: usize,
    block_bytes: usize,
    next: Arc<AtomicUsize>,
    /// Open as long as this is.
    _endpoints: [Endpoint; 2],
}

impl Raw {
    pub(super) fn start(size: Size) -> anyhow::Result<Self> {
        let (sender, receiver) = (Side::start("raw-sender")?, Side::start("raw-receiver")?);
        let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        let cert = certified.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let server = server_config(cert.clone(), key)?;
        let serving = sender.run(async move { endpoint(Some(server)) })??;
        let addr = serving.local_addr()?;
        let blocks: Vec<_> = (0..size.source).map(|number| block(number, size.block_bytes)).collect();
        sender.run({
            let serving = serving.clone();
            async move {
                tokio::spawn(serve(serving, Arc::new(blocks)));
            }
        })?;
        let config = client_config(cert)?;
        let (calling, connection) = receiver.run(async move {
            let endpoint = endpoint(None)?;
            let connection = endpoint.connect_with(config, addr, NAME)?.await?;
            anyhow::Ok((endpoint, connection))
        })??;
        let slots = (0..size.slots).map(|_| Mutex::new(vec![1; size.block_bytes])).collect();
        let _endpoints = [serving, calling];
        Ok(Self {
            sender,
            receiver,
            connection,
            slots: Arc::new(slots),
            source: size.source,
            block_bytes: size.block_bytes,
            next: Arc::default(),
            _endpoints,
        })
    }

    /// As [`super::side::Receiver::fetch`].
    pub(super) fn fetch(&self, in_flight: usize, time: Duration) -> anyhow::Result<Fetched> {
        let before = (self.sender.cpu()?, self.receiver.cpu()?);
        let began = Instant::now();
        let streams = (0..in_flight).map(|_| {
            let (connection, slots, next) = (self.connection.clone(), Arc::clone(&self.slots), Arc::clone(&self.next));
            let source = self.source;
            async move {
                let mut blocks = 0;
                while began.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    get(&connection, number % source, &slots[number % slots.len()]).await?;
                    blocks += 1;
                }
                anyhow::Ok(blocks)
            }
        });
        let blocks: usize = self.receiver.run(try_join_all(streams))??.into_iter().sum();
        let took = began.elapsed();
        let (sender, receiver) = (self.sender.cpu()? - before.0, self.receiver.cpu()? - before.1);
        Ok(Fetched { bytes: blocks * self.block_bytes, took, sender, receiver })
    }
}

async fn get(connection: &Connection, number: usize, slot: &Mutex<Vec<u8>>) -> anyhow::Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&(number as u64).to_le_bytes()).await?;
    send.finish()?;
    let mut at = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        slot.lock()[at..at + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
        at += chunk.bytes.len();
    }
    Ok(())
}

async fn serve(endpoint: Endpoint, blocks: Arc<Vec<Bytes>>) {
    while let Some(incoming) = endpoint.accept().await {
        let blocks = Arc::clone(&blocks);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let blocks = Arc::clone(&blocks);
                tokio::spawn(async move {
                    let mut number = [0; 8];
                    recv.read_exact(&mut number).await?;
                    let number = usize::try_from(u64::from_le_bytes(number))?;
                    send.write_chunk(blocks[number].clone()).await?;
                    send.finish()?;
                    anyhow::Ok(())
                });
            }
        });
    }
}

fn block(number: usize, bytes: usize) -> Bytes {
    (0..bytes).map(|at| ((at + number) % 251) as u8).collect::<Vec<_>>().into()
}

fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn server_config(cert: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> anyhow::Result<ServerConfig> {
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

fn client_config(cert: CertificateDer<'static>) -> anyhow::Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert)?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .initial_mtu(DATAGRAM_BYTES)
        .min_mtu(DATAGRAM_BYTES)
        .mtu_discovery_config(None)
        .congestion_controller_factory(Arc::new(BbrConfig::default()));
    Arc::new(config)
}

fn endpoint(server: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    for set in [
        rustix::net::sockopt::set_socket_recv_buffer_size_force::<&socket2::Socket>,
        rustix::net::sockopt::set_socket_send_buffer_size_force::<&socket2::Socket>,
    ] {
        // Without the privilege the system's limit holds, for both that are compared.
        let _ = set(&socket, SOCKET_BUFFER_BYTES);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(Capped(runtime.wrap_udp_socket(socket.into())?));
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM_BYTES)?;
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, runtime)?)
}

/// Without it every full batch of large datagrams is lost: see the transport's own.
struct Capped(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capped")
    }
}

impl AsyncUdpSocket for Capped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments().min(SEGMENTS)
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
