//! One UDP socket of a process: it calls and it serves.
use crate::{BindError, BlockSink, CallError, FetchError, FetchRequest, FetchSummary, Identity, Metrics, Routes};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;
use weft_types::rpc::Method;
use weft_types::{Name, Role};

/// What a socket is tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Small messages: metadata, reports, lookups.
    Control,
    /// KV blocks: large buffers and datagrams, BBR.
    Bulk,
}

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
/// clones are one socket.
#[derive(Clone, Debug)]
pub struct Fabric {}

/// Items of a subscription, in the order they were published.
#[derive(Debug)]
pub struct Subscription<T> {
    _item: PhantomData<T>,
}

impl Fabric {
    /// Binds; must be called inside a tokio runtime, whose tasks then drive the socket.
    pub fn bind(
        _addr: SocketAddr,
        _profile: Profile,
        _identity: &Identity,
        _metrics: Metrics,
    ) -> Result<Self, BindError> {
        unimplemented!()
    }

    /// Bound address.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Serves incoming connections until [`Fabric::close`]; spawns and returns at once.
    pub fn serve(&self, _routes: Routes) {
        unimplemented!()
    }

    /// One request, one response.
    pub async fn call<M: Method>(
        &self,
        _to: &Target,
        _request: &M::Request,
        _deadline: Duration,
    ) -> Result<M::Response, CallError> {
        unimplemented!()
    }

    /// One request, then items until either side ends it. `deadline` bounds the opening only.
    pub async fn subscribe<M: Method>(
        &self,
        _to: &Target,
        _request: &M::Request,
        _deadline: Duration,
    ) -> Result<Subscription<M::Response>, CallError> {
        unimplemented!()
    }

    /// Streams blocks from a peer into `sink`, in the order asked.
    pub async fn fetch(
        &self,
        _to: &Target,
        _request: FetchRequest,
        _sink: &mut dyn BlockSink,
        _deadline: Duration,
    ) -> Result<FetchSummary, FetchError> {
        unimplemented!()
    }

    /// Tells every peer, closes every connection and the socket.
    pub async fn close(&self) {
        unimplemented!()
    }
}

impl<T> Subscription<T> {
    /// The next item; `None` when the publisher ended it properly. Dropping the subscription ends it.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        unimplemented!()
    }
}
