//! Asking an engine for batches that were missed.
//!
//! ```text
//!   ► [ "", first number: u64-BE ]
//!   ◄ [ "", topic, number: u64-BE, payload ]        for each that it still has, ascending: vLLM keeps 10,000
//!   ◄ [ "", topic, -1, … ]                          and then no more
//! ```

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage};

use crate::{Numbered, Publisher, parse};

/// For a connection, and between two answers: an engine answers from a list in memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Batches of one replay: ten times what engines keep by default.
const BATCHES_MAX: usize = 100_000;

/// The number that ends a replay.
const END: u64 = u64::MAX;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("no replay address is configured")]
    NoAddress,
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Late,
    #[error(transparent)]
    Socket(#[from] ZmqError),
    #[error("an answer is not topic, number and payload")]
    Malformed,
    #[error("more than {BATCHES_MAX} batches")]
    Endless,
}

/// Gives `each` the batches from this number on, as far as the engine still has them.
pub(crate) async fn from(
    publisher: &Publisher,
    number: u64,
    mut each: impl FnMut(Numbered),
) -> Result<(), ReplayError> {
    let address = publisher.replay.as_ref().ok_or(ReplayError::NoAddress)?;
    let mut socket = DealerSocket::new();
    within(socket.connect(address)).await?;
    let mut request = ZmqMessage::from(Bytes::new());
    request.push_back(Bytes::copy_from_slice(&number.to_be_bytes()));
    within(socket.send(request)).await?;
    for _ in 0..BATCHES_MAX {
        let answer = within(socket.recv()).await?;
        // The last one has a number, and perhaps nothing else that means anything.
        if answer.iter().any(|frame| frame.as_ref() == END.to_be_bytes()) {
            return Ok(());
        }
        each(parse(&answer).ok_or(ReplayError::Malformed)?);
    }
    Err(ReplayError::Endless)
}

async fn within<T>(work: impl Future<Output = Result<T, ZmqError>>) -> Result<T, ReplayError> {
    Ok(timeout(ANSWER_WITHIN, work).await.map_err(|_| ReplayError::Late)??)
}
