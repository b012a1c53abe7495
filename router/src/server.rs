//! The clients' listener: connections in, each with its bounds, and a proper end to all of them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::Limits;
use crate::gateway::Gateway;
use crate::stall::WriteStall;

/// A listener at work.
#[derive(Debug)]
pub(crate) struct Server {
    addr: SocketAddr,
    /// No new connections, and no new requests on those there are.
    stop: CancellationToken,
    /// No connections at all.
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// After the process ran out of descriptors: time for some connection to end.
    const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
    /// Header bytes and fields of a request; hyper answers 431 beyond. As other proxies do.
    const HEAD_BYTES_MAX: usize = 64 << 10;

    pub(crate) fn start(listener: TcpListener, gateway: Arc<Gateway>, limits: &Limits) -> io::Result<Self> {
        let server = Self {
            addr: listener.local_addr()?,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let accepting = Accepting {
            slots: Arc::new(Semaphore::new(limits.connections)),
            stop: server.stop.clone(),
            cut: server.cut.clone(),
            connections: server.connections.clone(),
            limits: limits.clone(),
            gateway,
        };
        server.connections.spawn(accepting.run(listener));
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets requests in flight end, for so long; then cuts them off. True if none was.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        self.stop.cancel();
        self.connections.close();
        let all = timeout(within, self.connections.wait()).await.is_ok();
        self.cut.cancel();
        self.connections.wait().await;
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

struct Accepting {
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
    limits: Limits,
    gateway: Arc<Gateway>,
}

impl Accepting {
    async fn run(self, listener: TcpListener) {
        loop {
            let next = async {
                let slot = Arc::clone(&self.slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let Some((slot, accepted)) = self.stop.run_until_cancelled(next).await else { return };
            match accepted {
                Ok((socket, _)) => {
                    let connection = self.connection(socket);
                    self.connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!("cannot accept connections: {error}");
                    sleep(Server::ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn connection(&self, socket: TcpStream) -> impl Future<Output = ()> + use<> {
        // Without it, the last bytes of an event may wait for an acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            debug!("TCP_NODELAY: {error}");
        }
        let gateway = Arc::clone(&self.gateway);
        let service = service_fn(move |request| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, Infallible>(gateway.serve(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_within)
            .max_header_size(Server::HEAD_BYTES_MAX)
            .serve_connection(WriteStall::new(TokioIo::new(socket), self.limits.client_stall), service);
        let (stop, cut) = (self.stop.clone(), self.cut.clone());
        async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    cut.run_until_cancelled(connection).await
                }
            };
            if let Some(Err(error)) = ended {
                debug!("a connection ended early: {error}");
            }
        }
    }
}
