//! Serving: accept, prove, greet, then one task a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, Incoming, RecvStream, SendStream, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::fabric::Core;
use crate::hello::{self, HelloError};
use crate::metrics::Direction;
use crate::routes::Routes;
use crate::standing::{self, Lifetime, Proof};
use crate::trust::{Expected, HandshakeFailure, PeerRefusal, Verifier};
use crate::{Identity, Peer, peer, tls};

mod answer;

/// Connections from peers at a time, handshakes included. Beyond it, attempts are refused before any cryptography.
const CONNECTIONS_MAX: usize = 4096;

/// Longest that a peer may take to send a request whose stream it has opened.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Serves until the fabric closes.
pub(crate) fn start(core: &Arc<Core>, routes: Routes) {
    let limits = routes.limits;
    let server = Arc::new(Server {
        core: Arc::clone(core),
        connections: AtomicUsize::new(0),
        calls: Semaphore::new(limits.calls),
        subscriptions: Semaphore::new(limits.subscriptions),
        fetches: Semaphore::new(limits.fetches),
        routes,
    });
    // Never used: each connection brings its own.
    let identity = core.credentials.identity();
    let verifier = Verifier::new(&identity, &core.credentials, Expected::anyone(&identity));
    core.endpoint.set_server_config(Some(ServerConfig::with_crypto(tls::server(&identity, verifier))));
    tokio::spawn(Arc::clone(&server).accept());
}

/// What connections share.
struct Server {
    core: Arc<Core>,
    routes: Routes,
    connections: AtomicUsize,
    calls: Semaphore,
    subscriptions: Semaphore,
    fetches: Semaphore,
}

/// A connection whose peer is known.
struct Served {
    server: Arc<Server>,
    connection: Connection,
    peer: Peer,
}

impl Server {
    async fn accept(self: Arc<Self>) {
        while let Some(incoming) = self.core.endpoint.accept().await {
            if self.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                self.core.metrics.refused.with_label_values(&["too_many"]).inc();
                incoming.refuse();
                continue;
            }
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let _slot = Slot(&server.connections);
                Arc::clone(&server).connection(incoming).await;
            });
        }
    }

    async fn connection(self: Arc<Self>, incoming: Incoming) {
        let addr = incoming.remote_address();
        let identity = self.core.credentials.identity();
        let verifier = Verifier::new(&identity, &self.core.credentials, Expected::anyone(&identity));
        match self.greet(incoming, &identity, &verifier).await {
            Ok((connection, proof)) => {
                let (core, lifetime) = (Arc::clone(&self.core), Lifetime::of(&identity, &proof));
                let peer = proof.peer.clone();
                tokio::spawn(standing::keep(core, connection.clone(), proof, lifetime));
                Arc::new(Served { server: self, connection, peer }).serve().await;
            }
            Err(HandshakeFailure::Ours(refusal)) => self.core.refusals.ours(addr, &refusal),
            Err(HandshakeFailure::Theirs(said)) => self.core.refusals.theirs(addr, &said),
            Err(HandshakeFailure::Network(reason)) => debug!(peer = %addr, reason, "a connection did not come about"),
        }
    }

    /// Handshake, then versions. The settings are this connection's own: the verifier remembers what it refused, and the
    /// datagram size depends on where the peer is.
    async fn greet(
        &self,
        incoming: Incoming,
        identity: &Identity,
        verifier: &Arc<Verifier>,
    ) -> Result<(Connection, Proof), HandshakeFailure> {
        let mut config = ServerConfig::with_crypto(tls::server(identity, Arc::clone(verifier)));
        config.transport_config(self.core.tuning.transport(incoming.remote_address().ip()));
        let failed = |error| HandshakeFailure::of(&error, verifier);
        let connection = incoming.accept_with(Arc::new(config)).map_err(failed)?.await.map_err(failed)?;
        hello::exchange(&connection, self.core.versions).await.map_err(|error| match error {
            HelloError::Ended(error) => failed(error),
            HelloError::Version(error) => HandshakeFailure::Ours(PeerRefusal::Version(error)),
            HelloError::Missing(reason) => HandshakeFailure::Network(reason),
        })?;
        let proof = proved(&connection).expect("the verifier has parsed the same certificate");
        Ok((connection, proof))
    }
}

impl Served {
    async fn serve(self: Arc<Self>) {
        let core = &self.server.core;
        debug!(peer = %self.connection.remote_address(), who = %self.peer, "serving");
        tokio::spawn(core.metrics.clone().account(self.connection.clone(), core.tuning.profile, Direction::In));
        // How many streams are open at a time is QUIC's to bound.
        while let Ok((send, recv)) = self.connection.accept_bi().await {
            let served = Arc::clone(&self);
            tokio::spawn(async move { served.stream(send, recv).await });
        }
    }

    async fn stream(&self, send: SendStream, recv: RecvStream) {
        if let Err(fault) = self.answer(send, recv).await {
            warn!(peer = %self.connection.remote_address(), who = %self.peer, "peer broke the protocol: {fault}");
        }
    }
}

struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who the other side of a connection proved to be.
pub(crate) fn proved(connection: &Connection) -> Option<Proof> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let certificate = identity.first()?;
    let (peer, ends) = (Peer::from_certificate(certificate).ok()?, peer::end_of(certificate).ok()?);
    Some(Proof { peer, serial: peer::serial_of(certificate)?, ends })
}
