//! One UDP socket of a process: it calls and it serves.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::Endpoint;
use weft_transport_proto::{Frame, VersionRange, codes};
use weft_types::rpc::{Message, Method};
use weft_types::{Name, Role};

use crate::exchange::Exchange;
use crate::pool::{Kept, Pool};
use crate::profile::Tuning;
use crate::refusals::Refusals;
use crate::{
    BindError, BlockSink, CallError, Credentials, FetchError, FetchRequest, FetchSummary, Metrics, Routes,
    Subscription, fetch, server, socket,
};

/// Longest that [`Fabric::close`] waits for peers to take note.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Whom we want to talk to: a connection to anyone else is refused before a byte is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where.
    pub addr: SocketAddr,
    /// Role its certificate must show.
    pub role: Role,
    /// Name its certificate must show; `None`: any of that role.
    pub name: Option<Name>,
}

/// One UDP socket: connections out are pooled by target, connections in are served by [`Routes`]. Clone is cheap; all
/// clones are one socket, which is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Fabric(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Socket(Socket),
    #[cfg(feature = "testing")]
    Memory(crate::memory::Port),
}

#[derive(Debug)]
struct Socket {
    core: Arc<Core>,
    pool: Pool,
    serving: AtomicBool,
    local_addr: SocketAddr,
}

/// What the tasks of a fabric share. They do not hold the fabric itself: it ends when its user drops it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) tuning: Tuning,
    pub(crate) versions: VersionRange,
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Refusals,
    closed: AtomicBool,
}

impl Fabric {
    /// Binds; must be called inside a tokio runtime, whose tasks then drive the socket. `tuning` is a [`crate::Profile`], or one
    /// with a datagram size; `credentials` are an [`crate::Identity`],
    /// or one that can be renewed.
    ///
    /// # Errors
    /// The address is taken or not ours, or the datagram size is out of range.
    pub fn bind(
        addr: SocketAddr,
        tuning: impl Into<Tuning>,
        credentials: impl Into<Credentials>,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        Self::bind_speaking(VersionRange::OURS, addr, tuning.into(), credentials.into(), metrics)
    }

    /// A fabric that speaks other versions than this release does.
    pub(crate) fn bind_speaking(
        versions: VersionRange,
        addr: SocketAddr,
        tuning: Tuning,
        credentials: Credentials,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        let identity = credentials.identity();
        let endpoint = socket::bind(addr, tuning, &identity)?;
        let local_addr = endpoint.local_addr().map_err(|source| BindError::Io { addr, source })?;
        metrics.certified_until(identity.ends);
        let core = Core {
            endpoint,
            credentials,
            tuning,
            versions,
            refusals: Refusals::new(identity.me.clone(), metrics.clone()),
            metrics,
            closed: AtomicBool::new(false),
        };
        Ok(Self(Arc::new(Inner::Socket(Socket {
            core: Arc::new(core),
            pool: Pool::default(),
            serving: AtomicBool::new(false),
            local_addr,
        }))))
    }

    /// A fabric of a network in memory.
    #[cfg(feature = "testing")]
    pub(crate) fn in_memory(port: crate::memory::Port) -> Self {
        Self(Arc::new(Inner::Memory(port)))
    }

    /// Bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &*self.0 {
            Inner::Socket(socket) => socket.local_addr,
            #[cfg(feature = "testing")]
            Inner::Memory(port) => port.addr(),
        }
    }

    /// Serves incoming connections until [`Fabric::close`]; spawns and returns at once.
    ///
    /// # Panics
    /// It serves already.
    pub fn serve(&self, routes: Routes) {
        match &*self.0 {
            Inner::Socket(socket) => {
                assert!(!socket.serving.swap(true, Ordering::Relaxed), "a fabric serves one table of routes");
                server::start(&socket.core, routes);
            }
            #[cfg(feature = "testing")]
            Inner::Memory(port) => port.serve(routes),
        }
    }

    /// One request, one response, within `deadline`, the making of a connection included. Dropping the future resets the
    /// stream, and the handler on the other side is dropped.
    ///
    /// # Errors
    /// See [`CallError`]; all but `Connect`, `TooLong` and a `Refused` of another code than `Failed` leave it open whether the
    /// handler ran.
    pub async fn call<M: Method>(
        &self,
        to: &Target,
        request: &M::Request,
        deadline: Duration,
    ) -> Result<M::Response, CallError> {
        let outcome = within(to, M::NAME, deadline, self.call_now::<M>(to, request)).await;
        self.count("call", outcome.as_ref().err());
        outcome
    }

    /// One request, then items until either side ends it. `deadline` bounds the opening only. A handler that refuses after it
    /// was started shows in [`Subscription::next`].
    ///
    /// # Errors
    /// As for a call.
    pub async fn subscribe<M: Method>(
        &self,
        to: &Target,
        request: &M::Request,
        deadline: Duration,
    ) -> Result<Subscription<M::Response>, CallError> {
        let outcome = within(to, M::NAME, deadline, self.subscribe_now::<M>(to, request)).await;
        self.count("subscribe", outcome.as_ref().err());
        outcome
    }

    /// Streams blocks from a peer into `sink`, in the order asked, within `deadline`. Whatever ends it early, blocks that the
    /// sink was told are complete stay complete.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        to: &Target,
        request: FetchRequest,
        sink: &mut dyn BlockSink,
        deadline: Duration,
    ) -> Result<FetchSummary, FetchError> {
        let fetching = async { tokio::time::timeout(deadline, fetch::fetch(self, to, &request, sink)).await };
        let outcome = fetching.await.unwrap_or_else(|_| {
            Err(CallError::Deadline { addr: to.addr, method: fetch::NAME, after: deadline }.into())
        });
        match &outcome {
            Ok(_) => self.count("fetch", None),
            Err(FetchError::Call(error)) => self.count("fetch", Some(error)),
            Err(FetchError::Request(_)) => {}
        }
        outcome
    }

    /// Tells every peer, closes every connection and the socket. Whatever is in flight is broken off: drain first.
    pub async fn close(&self) {
        match &*self.0 {
            Inner::Socket(socket) => {
                socket.core.close();
                let _ = tokio::time::timeout(CLOSE_MAX, socket.core.endpoint.wait_idle()).await;
            }
            #[cfg(feature = "testing")]
            Inner::Memory(port) => port.close(),
        }
    }

    /// The next call to this target makes a connection anew, and whatever waits on the one there is goes on waiting. For a caller
    /// that knows sooner than timers do that nobody is at its other end: after a restart, the process there does not know it,
    /// and packets sent in vain are repeated after longer and longer pauses.
    pub fn redial(&self, to: &Target) {
        match &*self.0 {
            Inner::Socket(socket) => socket.pool.forget(to),
            // Its connections have no timers.
            #[cfg(feature = "testing")]
            Inner::Memory(_) => {}
        }
    }

    /// Whether it was closed: no call can succeed any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &*self.0 {
            Inner::Socket(socket) => socket.core.closed.load(Ordering::Relaxed),
            #[cfg(feature = "testing")]
            Inner::Memory(port) => port.is_closed(),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.socket().core
    }

    fn socket(&self) -> &Socket {
        match &*self.0 {
            Inner::Socket(socket) => socket,
            #[cfg(feature = "testing")]
            Inner::Memory(_) => {
                unreachable!("a network in memory has calls and subscriptions of its own, and no blocks")
            }
        }
    }

    pub(crate) async fn connection(&self, to: &Target) -> Result<Arc<Kept>, Arc<str>> {
        let socket = self.socket();
        socket.pool.connection(&socket.core, to).await
    }

    async fn call_now<M: Method>(&self, to: &Target, request: &M::Request) -> Result<M::Response, CallError> {
        let body = encoded::<M>(request)?;
        #[cfg(feature = "testing")]
        if let Inner::Memory(port) = &*self.0 {
            return port.call::<M>(to, body).await;
        }
        let mut exchange = Exchange::open(self, to, M::NAME).await?;
        exchange.send(Frame::Call { method: M::ID, len: body.len() as u64 }, body.into()).await?;
        let response = match exchange.frame().await? {
            Frame::Reply { len } => exchange.body("response", len, M::RESPONSE_BYTES_MAX).await?,
            other => return Err(exchange.unexpected("Reply or Refuse", other)),
        };
        exchange.end();
        M::Response::decode(&response).map_err(|source| exchange.undecodable(source))
    }

    async fn subscribe_now<M: Method>(
        &self,
        to: &Target,
        request: &M::Request,
    ) -> Result<Subscription<M::Response>, CallError> {
        let body = encoded::<M>(request)?;
        #[cfg(feature = "testing")]
        if let Inner::Memory(port) = &*self.0 {
            return port.subscribe::<M>(to, body).await;
        }
        let mut exchange = Exchange::open(self, to, M::NAME).await?;
        exchange.send(Frame::Subscribe { method: M::ID, len: body.len() as u64 }, body.into()).await?;
        match exchange.frame().await? {
            Frame::Accept => Ok(Subscription::new(exchange, M::RESPONSE_BYTES_MAX)),
            other => Err(exchange.unexpected("Accept or Refuse", other)),
        }
    }

    fn count(&self, kind: &str, error: Option<&CallError>) {
        #[cfg(feature = "testing")]
        if matches!(*self.0, Inner::Memory(_)) {
            return;
        }
        self.core().metrics.requests.with_label_values(&[kind, error.map_or("ok", CallError::outcome)]).inc();
    }
}

impl Core {
    /// Ends every task of the fabric too: each waits on the endpoint, or on one of its connections.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.endpoint.close(codes::CLOSED.into(), b"the process is going away");
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.core.close();
    }
}

fn encoded<M: Method>(request: &M::Request) -> Result<Vec<u8>, CallError> {
    let body = request.encode();
    if body.len() > M::REQUEST_BYTES_MAX {
        return Err(CallError::TooLong { method: M::NAME, len: body.len(), max: M::REQUEST_BYTES_MAX });
    }
    Ok(body)
}

async fn within<T>(
    to: &Target,
    method: &'static str,
    deadline: Duration,
    asking: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CallError::Deadline { addr: to.addr, method, after: deadline }),
    }
}
