//! Making a connection: TLS with the target's role and name expected, then the version handshake.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, ConnectionError};
use tracing::debug;

use crate::fabric::Core;
use crate::hello::{self, HelloError};
use crate::metrics::Direction;
use crate::pool::Kept;
use crate::standing::{self, Lifetime};
use crate::tls;
use crate::trust::{Expected, HandshakeFailure, PeerRefusal, Verifier};
use crate::{Identity, Target, server};

/// Longest attempt. It goes on when the caller that began it has given up, so that short deadlines do not keep a slow
/// connection from ever being made.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// TLS wants a server name. It is not looked at: whom we talk to stands in the SAN URI.
const SERVER_NAME: &str = "weft";

/// Connects to a target.
///
/// # Errors
/// Why not, for a human. Refusals, ours and theirs, are logged here; all else is the caller's to tell.
pub(crate) async fn dial(core: Arc<Core>, to: Target) -> Result<Kept, String> {
    let identity = core.credentials.identity();
    let verifier = Verifier::new(&identity, &core.credentials, Expected::target(&identity, &to));
    let attempt = tokio::time::timeout(DIAL_MAX, connect(&core, &to, identity, &verifier)).await;
    let failure = match attempt {
        Ok(Ok(kept)) => {
            core.metrics.dials.with_label_values(&["ok"]).inc();
            return Ok(kept);
        }
        Ok(Err(failure)) => failure,
        Err(_) => HandshakeFailure::Network(format!("no answer within {DIAL_MAX:?}")),
    };
    let (outcome, reason) = match failure {
        HandshakeFailure::Ours(refusal) => {
            core.refusals.ours(to.addr, &refusal);
            ("refused", format!("we refused the peer: it {refusal}"))
        }
        HandshakeFailure::Theirs(said) => {
            core.refusals.theirs(to.addr, &said);
            ("refused", format!("the peer refused us: we {said}"))
        }
        HandshakeFailure::Network(reason) => ("failed", reason),
    };
    core.metrics.dials.with_label_values(&[outcome]).inc();
    Err(reason)
}

async fn connect(
    core: &Arc<Core>,
    to: &Target,
    identity: Arc<Identity>,
    verifier: &Arc<Verifier>,
) -> Result<Kept, HandshakeFailure> {
    let mut config = ClientConfig::new(tls::client(&identity, Arc::clone(verifier)));
    config.transport_config(core.tuning.transport(to.addr.ip()));
    let failed = |error: ConnectionError| HandshakeFailure::of(&error, verifier);
    let connecting = core
        .endpoint
        .connect_with(config, to.addr, SERVER_NAME)
        .map_err(|error| HandshakeFailure::Network(error.to_string()))?;
    let connection = connecting.await.map_err(failed)?;
    let version = hello::exchange(&connection, core.versions).await.map_err(|error| match error {
        HelloError::Ended(error) => failed(error),
        HelloError::Version(error) => HandshakeFailure::Ours(PeerRefusal::Version(error)),
        HelloError::Missing(reason) => HandshakeFailure::Network(reason),
    })?;
    debug!(peer = %to.addr, role = %to.role, version, "connected");
    tokio::spawn(core.metrics.clone().account(connection.clone(), core.tuning.profile, Direction::Out));
    let proof = server::proved(&connection).expect("the verifier has parsed the same certificate");
    let lifetime = Lifetime::of(&identity, &proof);
    tokio::spawn(standing::keep(Arc::clone(core), connection.clone(), proof, lifetime));
    Ok(Kept { connection, lifetime, presented: identity })
}
