//! What a process serves: method → roles that may call it → handler.
use crate::{BlockSource, Peer, Refusal};
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use weft_types::Role;
use weft_types::rpc::Method;

/// Table of handlers.
#[derive(Default, Debug)]
pub struct Routes {}

/// Server side of a subscription.
#[derive(Debug)]
pub struct Publisher<T> {
    _item: PhantomData<T>,
}

/// The subscriber is gone or did not keep up.
#[derive(Debug, thiserror::Error)]
#[error("subscriber gone: {0}")]
pub struct PublishError(pub String);

impl Routes {
    /// Empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call. `roles`: who may; anybody else gets `Forbidden`, logged on both sides.
    pub fn rpc<M, F, R>(self, _roles: &'static [Role], _handler: F) -> Self
    where
        M: Method,
        F: Fn(Peer, M::Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<M::Response, Refusal>> + Send + 'static,
    {
        unimplemented!()
    }

    /// A subscription; it ends when the handler's future does.
    pub fn subscription<M, F, R>(self, _roles: &'static [Role], _handler: F) -> Self
    where
        M: Method,
        F: Fn(Peer, M::Request, Publisher<M::Response>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        unimplemented!()
    }

    /// Block streams.
    pub fn blocks(self, _roles: &'static [Role], _source: Arc<dyn BlockSource>) -> Self {
        unimplemented!()
    }
}

impl<T: weft_types::rpc::Message> Publisher<T> {
    /// Sends one item; waits while the subscriber's window is full.
    pub async fn publish(&mut self, _item: &T) -> Result<(), PublishError> {
        unimplemented!()
    }

    /// Resolves when the subscriber has gone.
    pub async fn closed(&mut self) {
        unimplemented!()
    }
}
