//! What a process serves: method → roles that may call it → handler.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use weft_types::Role;
use weft_types::rpc::{Message, Method};

use crate::subscription::Sink;
use crate::{BlockSource, Peer, Publisher, Refusal, RefusalCode};

/// Calls served at a time, all peers together, unless [`Routes::calls_max`] says otherwise. Each may hold a request and a
/// response of 4 MiB; most hold a few hundred bytes.
const CALLS_MAX: usize = 1024;
/// Subscriptions served at a time: a router has one or two of each metadata member.
const SUBSCRIPTIONS_MAX: usize = 256;
/// Fetches served at a time: each pins a block or two and has up to a send window in flight.
const FETCHES_MAX: usize = 256;

/// Table of handlers.
pub struct Routes {
    pub(crate) methods: HashMap<u16, Route>,
    pub(crate) blocks: Option<BlockRoute>,
    pub(crate) limits: Limits,
}

/// Requests served at a time, by kind; what comes beyond is refused as `Overloaded`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) calls: usize,
    pub(crate) subscriptions: usize,
    pub(crate) fetches: usize,
}

/// One method.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    pub(crate) request_bytes_max: usize,
    pub(crate) handler: Handler,
}

/// Block streams.
pub(crate) struct BlockRoute {
    pub(crate) roles: &'static [Role],
    pub(crate) source: Arc<dyn BlockSource>,
}

pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;
type CallHandler = dyn Fn(Peer, &[u8]) -> Answer<Vec<u8>> + Send + Sync;
type SubscriptionHandler = dyn Fn(Peer, &[u8], Sink) -> Begun + Send + Sync;

/// A handler with its types taken off: bytes in, bytes out.
pub(crate) enum Handler {
    Call(Box<CallHandler>),
    Subscription(Box<SubscriptionHandler>),
}

/// A subscription whose request was understood, or the stream back with the reason why not.
pub(crate) type Begun = Result<(Answer<()>, oneshot::Receiver<Sink>), (Sink, Refusal)>;

impl Routes {
    /// Empty table.
    #[must_use]
    pub fn new() -> Self {
        let limits = Limits { calls: CALLS_MAX, subscriptions: SUBSCRIPTIONS_MAX, fetches: FETCHES_MAX };
        Self { methods: HashMap::new(), blocks: None, limits }
    }

    /// A call. `roles`: who may; anybody else gets `Forbidden`, logged on both sides. The handler is dropped when its caller
    /// goes.
    ///
    /// # Panics
    /// There is a route of that number.
    #[must_use]
    pub fn rpc<M, F, R>(self, roles: &'static [Role], handler: F) -> Self
    where
        M: Method,
        F: Fn(Peer, M::Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<M::Response, Refusal>> + Send + 'static,
    {
        let call = move |peer, body: &[u8]| -> Answer<Vec<u8>> {
            match decode::<M>(body) {
                Ok(request) => {
                    let answer = handler(peer, request);
                    Box::pin(async move { encode::<M>(&answer.await?) })
                }
                Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
            }
        };
        self.route::<M>(roles, Handler::Call(Box::new(call)))
    }

    /// A subscription; it ends when the handler's future does and its [`Publisher`] is dropped. The handler is dropped when its
    /// subscriber goes.
    ///
    /// # Panics
    /// There is a route of that number.
    #[must_use]
    pub fn subscription<M, F, R>(self, roles: &'static [Role], handler: F) -> Self
    where
        M: Method,
        F: Fn(Peer, M::Request, Publisher<M::Response>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let subscription = move |peer, body: &[u8], send| -> Begun {
            match decode::<M>(body) {
                Ok(request) => {
                    let (publisher, back) = Publisher::new(send, M::RESPONSE_BYTES_MAX);
                    Ok((Box::pin(handler(peer, request, publisher)), back))
                }
                Err(refusal) => Err((send, refusal)),
            }
        };
        self.route::<M>(roles, Handler::Subscription(Box::new(subscription)))
    }

    /// Block streams.
    #[must_use]
    pub fn blocks(mut self, roles: &'static [Role], source: Arc<dyn BlockSource>) -> Self {
        self.blocks = Some(BlockRoute { roles, source });
        self
    }

    /// Bounds the calls served at a time (default 1,024); what comes beyond is refused as `Overloaded`.
    #[must_use]
    pub fn calls_max(mut self, max: usize) -> Self {
        self.limits.calls = max;
        self
    }

    fn route<M: Method>(mut self, roles: &'static [Role], handler: Handler) -> Self {
        let route = Route { name: M::NAME, roles, request_bytes_max: M::REQUEST_BYTES_MAX, handler };
        let before = self.methods.insert(M::ID, route);
        assert!(before.is_none(), "two routes have the number {}", M::ID);
        self
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.methods.values().map(|route| route.name).collect();
        names.sort_unstable();
        f.debug_struct("Routes").field("methods", &names).field("blocks", &self.blocks.is_some()).finish()
    }
}

fn decode<M: Method>(body: &[u8]) -> Result<M::Request, Refusal> {
    M::Request::decode(body).map_err(|error| Refusal::new(RefusalCode::BadRequest, format!("{}: {error}", M::NAME)))
}

fn encode<M: Method>(response: &M::Response) -> Result<Vec<u8>, Refusal> {
    let body = response.encode();
    if body.len() > M::RESPONSE_BYTES_MAX {
        let (len, max) = (body.len(), M::RESPONSE_BYTES_MAX);
        let message = format!("{}: response of {len} bytes, at most {max} allowed", M::NAME);
        return Err(Refusal::new(RefusalCode::Failed, message));
    }
    Ok(body)
}
