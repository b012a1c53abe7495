//! The version handshake on a new connection. The caller waits for it, and so learns that it was refused: with TLS 1.3 a
//! client believes itself connected before the server has looked at its certificate.

use std::time::Duration;

use quinn::{Connection, ConnectionError};
use weft_transport_proto::{Frame, NoCommonVersion, VersionRange, codes};

use crate::wire;

/// Longest wait for a peer's `Hello`: it is sent without waiting for ours.
const HELLO_MAX: Duration = Duration::from_secs(3);

/// Why there was no agreement.
#[derive(Debug)]
pub(crate) enum HelloError {
    /// The connection ended first: most often, the peer refused our certificate.
    Ended(ConnectionError),
    /// The peer speaks other versions only.
    Version(NoCommonVersion),
    /// The peer said something else, or nothing.
    Missing(String),
}

/// Says what we speak, hears what the peer speaks; the version agreed. On failure the connection is closed.
pub(crate) async fn exchange(connection: &Connection, ours: VersionRange) -> Result<u16, HelloError> {
    let heard = tokio::time::timeout(HELLO_MAX, async { tokio::try_join!(say(connection, ours), hear(connection)) });
    let outcome = match heard.await {
        Ok(Ok(((), theirs))) => ours.agree(theirs).map_err(HelloError::Version),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(HelloError::Missing(format!("no hello within {HELLO_MAX:?}"))),
    };
    match &outcome {
        Ok(_) | Err(HelloError::Ended(_)) => {}
        Err(HelloError::Version(error)) => connection.close(codes::VERSION.into(), error.to_string().as_bytes()),
        Err(HelloError::Missing(reason)) => connection.close(codes::NO_HELLO.into(), reason.as_bytes()),
    }
    outcome
}

async fn say(connection: &Connection, ours: VersionRange) -> Result<(), HelloError> {
    let mut stream = connection.open_uni().await.map_err(HelloError::Ended)?;
    // A connection that is gone shows in `hear`, with its reason.
    let _ = stream.write_all(&Frame::Hello(ours).encode()).await;
    let _ = stream.finish();
    Ok(())
}

async fn hear(connection: &Connection) -> Result<VersionRange, HelloError> {
    let mut stream = connection.accept_uni().await.map_err(HelloError::Ended)?;
    match wire::read_frame(&mut stream).await {
        Ok(Frame::Hello(theirs)) => Ok(theirs),
        Ok(other) => Err(HelloError::Missing(format!("{:?} frame where Hello was expected", other.kind()))),
        Err(error) => match connection.close_reason() {
            Some(reason) => Err(HelloError::Ended(reason)),
            None => Err(HelloError::Missing(format!("no hello: {error}"))),
        },
    }
}
