//! A network in memory, for simulations: a [`Fabric`] of it calls, subscribes and serves as one on a socket does, every message
//! as its bytes, and a [`Weather`] decides what becomes of each.
//!
//! ```text
//!  call ──► Weather ──► copies of the request, each after its delay ──► route ─► handler ──► Weather ──► the first answer
//!  subscribe ─ the same, then items: in order, again until they arrive, broken off when they do not for [`IDLE_MAX`]
//! ```
//! What runs on it is deterministic if the runtime is (one thread, paused clock) and the weather is.
//!
//! # Absent on purpose
//! - certificates: whoever binds a port says who it is;
//! - bounds of what is served at a time, and block streams.

mod stream;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use weft_transport_proto::{Refusal, RefusalCode};
use weft_types::rpc::{Message, Method};

use crate::routes::{Handler, Route};
use crate::subscription::Sink;
use crate::{CallError, Fabric, Peer, Routes, Subscription, Target};

pub(crate) use self::stream::{Inlet, Outlet};

/// As on a socket, a subscription that nothing passes for so long is broken.
pub const IDLE_MAX: Duration = Duration::from_secs(4);

/// More copies of a message than this are not told from this many.
const COPIES_MAX: usize = 8;

/// Decides what becomes of messages.
pub trait Weather: Debug + Send + Sync + 'static {
    /// How long each copy of a message takes that is sent now; none: it is lost.
    fn copies(&self, from: SocketAddr, to: SocketAddr) -> Vec<Duration>;
}

/// The network. Clone is cheap; clones are the same one.
#[derive(Clone, Debug)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    weather: Arc<dyn Weather>,
    ports: Mutex<BTreeMap<SocketAddr, Arc<Socket>>>,
}

/// One address, while it is bound.
#[derive(Debug)]
struct Socket {
    addr: SocketAddr,
    me: Peer,
    /// Gone once closed: handlers may hold the fabric itself.
    routes: Mutex<Option<Arc<Routes>>>,
    closed: watch::Sender<bool>,
}

/// A fabric's end of the network.
#[derive(Debug)]
pub(crate) struct Port {
    network: Network,
    socket: Arc<Socket>,
}

/// What comes back for a call.
enum Answer {
    Reply(Vec<u8>),
    Refused(Refusal),
    /// Nobody is bound there, or somebody else is.
    Nobody(String),
}

impl Network {
    /// A network of this weather.
    pub fn new(weather: Arc<dyn Weather>) -> Self {
        Self(Arc::new(Shared { weather, ports: Mutex::default() }))
    }

    /// A fabric at this address, which `me` proves to be in every call. Who was bound there before is not reached any more.
    #[must_use]
    pub fn bind(&self, addr: SocketAddr, me: Peer) -> Fabric {
        let socket = Arc::new(Socket { addr, me, routes: Mutex::default(), closed: watch::Sender::new(false) });
        self.0.ports.lock().insert(addr, Arc::clone(&socket));
        Fabric::in_memory(Port { network: self.clone(), socket })
    }

    /// Takes whoever is bound there off the network between two messages, as when its process is killed: what is on its way to
    /// or from it is lost, and nobody is told.
    pub fn cut_off(&self, addr: SocketAddr) {
        let bound = self.0.ports.lock().remove(&addr);
        if let Some(socket) = bound {
            socket.close();
        }
    }

    fn copies(&self, from: SocketAddr, to: SocketAddr) -> Vec<Duration> {
        let mut copies = self.0.weather.copies(from, to);
        copies.truncate(COPIES_MAX);
        copies
    }

    /// Who serves at the address and is whom it should be. A socket that serves nothing yet accepts no connection either.
    fn reach(&self, to: &Target) -> Result<Arc<Socket>, String> {
        let bound = self.0.ports.lock().get(&to.addr).cloned().filter(|socket| socket.serves());
        let socket = bound.ok_or_else(|| "nobody serves there".to_owned())?;
        let expected = socket.me.role == to.role && to.name.as_ref().is_none_or(|name| *name == socket.me.name);
        if expected { Ok(socket) } else { Err(format!("{} is there, expected {to:?}", socket.me)) }
    }
}

impl Socket {
    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    fn serves(&self) -> bool {
        !self.is_closed() && self.routes.lock().is_some()
    }

    fn close(&self) {
        self.closed.send_replace(true);
        let routes = self.routes.lock().take();
        drop(routes);
    }

    async fn closed(&self) {
        // The sender lives in self.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn routes(&self) -> Arc<Routes> {
        self.routes.lock().clone().unwrap_or_default()
    }

    async fn answer(&self, peer: &Peer, method: u16, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let routes = self.routes();
        match &route(&routes, peer, method)?.handler {
            Handler::Call(handler) => handler(peer.clone(), body).await,
            Handler::Subscription(_) => Err(Refusal::new(RefusalCode::BadRequest, "a method to subscribe to")),
        }
    }
}

/// The method's route, if the peer may use it.
fn route<'a>(routes: &'a Routes, peer: &Peer, method: u16) -> Result<&'a Route, Refusal> {
    let unknown = || Refusal::new(RefusalCode::UnknownMethod, format!("no method {method} here"));
    let route = routes.methods.get(&method).ok_or_else(unknown)?;
    match route.roles.contains(&peer.role) {
        true => Ok(route),
        false => Err(Refusal::new(RefusalCode::Forbidden, format!("{} was asked by {peer}", route.name))),
    }
}

impl Port {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.addr
    }

    pub(crate) fn serve(&self, routes: Routes) {
        let before = self.socket.routes.lock().replace(Arc::new(routes));
        assert!(before.is_none(), "a fabric serves one table of routes");
    }

    pub(crate) fn close(&self) {
        self.socket.close();
        let mut ports = self.network.0.ports.lock();
        if ports.get(&self.socket.addr).is_some_and(|bound| Arc::ptr_eq(bound, &self.socket)) {
            ports.remove(&self.socket.addr);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.socket.is_closed()
    }

    pub(crate) async fn call<M: Method>(&self, to: &Target, body: Vec<u8>) -> Result<M::Response, CallError> {
        let (answers, mut answered) = mpsc::channel(COPIES_MAX);
        self.check_open(to)?;
        for delay in self.network.copies(self.addr(), to.addr) {
            let (network, from) = (self.network.clone(), Arc::clone(&self.socket));
            let (to, body, answers) = (to.clone(), body.clone(), answers.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                deliver(&network, &from, &to, M::ID, &body, answers).await;
            });
        }
        drop(answers);
        match first(&mut answered).await {
            Answer::Reply(bytes) => M::Response::decode(&bytes).map_err(|source| CallError::Decode {
                addr: to.addr,
                method: M::NAME,
                source,
            }),
            Answer::Refused(refusal) => Err(CallError::Refused { addr: to.addr, method: M::NAME, refusal }),
            Answer::Nobody(reason) => Err(CallError::Connect { addr: to.addr, reason }),
        }
    }

    pub(crate) async fn subscribe<M: Method>(
        &self,
        to: &Target,
        body: Vec<u8>,
    ) -> Result<Subscription<M::Response>, CallError> {
        self.check_open(to)?;
        let arrives = self.network.copies(self.addr(), to.addr).into_iter().next();
        sleep(or_never(arrives).await).await;
        let opened = self.network.reach(to).map_err(|reason| CallError::Connect { addr: to.addr, reason });
        let accepted = opened.map(|server| stream::open::<M>(&self.network, &self.socket, &server, body));
        let arrives = self.network.copies(to.addr, self.addr()).into_iter().next();
        sleep(or_never(arrives).await).await;
        let refused = |refusal| CallError::Refused { addr: to.addr, method: M::NAME, refusal };
        accepted?.map(Subscription::in_memory).map_err(refused)
    }

    fn check_open(&self, to: &Target) -> Result<(), CallError> {
        match self.is_closed() {
            true => Err(CallError::Connect { addr: to.addr, reason: "the fabric is closed".to_owned() }),
            false => Ok(()),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

/// One copy of a request has arrived: has it answered, unless its caller goes first, and sends the answer back.
async fn deliver(
    network: &Network,
    from: &Socket,
    to: &Target,
    method: u16,
    body: &[u8],
    answers: mpsc::Sender<Answer>,
) {
    let answer = match network.reach(to) {
        Ok(server) => {
            tokio::select! {
                biased;
                () = answers.closed() => return,
                () = server.closed() => return,
                answer = server.answer(&from.me, method, body) => match answer {
                    Ok(reply) => Answer::Reply(reply),
                    Err(refusal) => Answer::Refused(refusal),
                },
            }
        }
        Err(reason) => Answer::Nobody(reason),
    };
    if let Some(delay) = network.copies(to.addr, from.addr).into_iter().next() {
        sleep(delay).await;
        // A caller that has its answer, or has gone, takes no other.
        drop(answers.try_send(answer));
    }
}

/// The first answer; never, if every copy was lost.
async fn first(answers: &mut mpsc::Receiver<Answer>) -> Answer {
    match answers.recv().await {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

async fn or_never(delay: Option<Duration>) -> Duration {
    match delay {
        Some(delay) => delay,
        None => std::future::pending().await,
    }
}
