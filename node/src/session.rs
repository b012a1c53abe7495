//! One engine's connection, from hello to the end.
//!
//! # Invariants
//! - an engine can give back only what it took (its [`weft_store::Ledger`]); one that loses count of its slots is disconnected;
//! - requests are answered in the order they came, but for loads that wait for the disk or for peers;
//! - however the connection ends, its slots are accounted for; its endpoint leaves the roster, unless it ended because the
//!   node goes.

mod copies;
mod handshake;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_attach::{
    AttachmentId, Draining, Frame, FrameError, FrameReader, FrameWriter, PeerProcess, SocketPolicy, ToEngine,
};
use weft_types::{EndpointId, Incarnation, NodeId};

use self::requests::Engine;
use crate::arenas::Arenas;
use crate::disk::Disk;
use crate::events::Events;
use crate::fetch::Fetcher;
use crate::metrics::Metrics;
use crate::quarantine::Quarantine;
use crate::report::{ReporterHandle, Verdict, refused};
use crate::roll::Roll;

/// Answers that wait for a slow engine. When they are all taken the session reads no further requests: the engine's own
/// socket then fills, and its calls run into their deadlines.
const ANSWERS_MAX: usize = 256;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Longest wait for the hello of whoever connected.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// What every session needs of the node.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) policy: SocketPolicy,
    pub(crate) arenas: Arc<Arenas>,
    /// `None` when there is none.
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) quarantine: Arc<Quarantine>,
    /// `None` when the node stands alone, without a disk tier.
    pub(crate) fetcher: Option<Arc<Fetcher>>,
    /// `None` when the node stands alone.
    pub(crate) reporter: Option<ReporterHandle>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    /// Whether it copies from and to engines' GPUs by itself.
    pub(crate) gpu_copies: bool,
    /// Cancelled when the node begins to go: stores are refused from then on.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the node goes: sessions end.
    pub(crate) stop: CancellationToken,
}

/// Why a session ended, when it was not the engine's wish.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("no hello within {HELLO_WAIT:?}")]
    Silent,
    #[error("{reason}")]
    Refused { reason: String, retry: bool },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Ledger(#[from] weft_store::LedgerError),
    #[error("metadata refuses the endpoint: {0}")]
    Verdict(String),
    #[error("the node is stopping")]
    Stopped,
}

/// Serves whoever connected until the connection ends.
pub(crate) async fn serve(shared: Arc<Shared>, mut stream: UnixStream, session: u64) {
    let attachment = AttachmentId((shared.incarnation.get() << 32) | session);
    let outcome = match handshake::shake_hands(&shared, &mut stream, attachment).await {
        Ok(attached) => attached.run(&shared, stream).await,
        Err(error) => {
            if let SessionError::Refused { reason, retry } = &error {
                handshake::refuse(&mut stream, reason, *retry).await;
            }
            Err(error)
        }
    };
    match outcome {
        Ok(()) => {}
        Err(SessionError::Stopped) => tracing::debug!(attachment = attachment.0, "engine session ended with the node"),
        Err(SessionError::Frame(FrameError::Closed)) => tracing::info!(attachment = attachment.0, "engine gone"),
        Err(error) => tracing::warn!(attachment = attachment.0, %error, "engine session ended"),
    }
}

/// An engine that was let in.
struct Attachment {
    id: AttachmentId,
    session: u64,
    endpoint: EndpointId,
    peer: PeerProcess,
    engine: Engine,
    verdict: watch::Receiver<Option<Verdict>>,
    /// Its events are followed for as long.
    _following: Option<DropGuard>,
}

impl Attachment {
    async fn run(mut self, shared: &Arc<Shared>, stream: UnixStream) -> Result<(), SessionError> {
        shared.metrics.attached_engines.inc();
        let (read, write) = stream.into_split();
        let (answers, outgoing) = mpsc::channel(ANSWERS_MAX);
        let writer = tokio::spawn(write_answers(write, outgoing));
        let outcome = {
            let mut frames = FrameReader::new(read);
            let requests = self.engine.serve(shared, &mut frames, &answers);
            tokio::select! {
                end = requests => end,
                reason = refused(&mut self.verdict) => Err(SessionError::Verdict(reason)),
                () = announce(shared, &answers) => Err(SessionError::Stopped),
            }
        };
        drop(answers);
        // The engine's pages are the node's until then.
        self.engine.end_copies().await;
        self.end(shared).await;
        // What was answered last (a detach, say) is written before the connection closes; an engine that does not read it
        // has gone, and its socket fails.
        drop(tokio::time::timeout(HELLO_WAIT, writer).await);
        outcome
    }

    async fn end(self, shared: &Arc<Shared>) {
        shared.metrics.attached_engines.dec();
        shared.roll.strike(self.session);
        if let Some(reporter) = &shared.reporter {
            reporter.detach(self.endpoint, self.session).await;
        }
        let (arena, ledger) = self.engine.into_ledger();
        shared.quarantine.take(self.id, self.peer, arena, ledger);
    }
}

/// Tells the engine that the node is about to go; resolves when it goes.
async fn announce(shared: &Shared, answers: &mpsc::Sender<Frame>) {
    shared.draining.cancelled().await;
    // An engine whose answers pile up learns of it when the connection closes.
    drop(answers.try_send(Frame::new(ToEngine::Draining(Draining {}).encode(), 0)));
    shared.stop.cancelled().await;
}

async fn write_answers(stream: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Frame>) {
    let mut writer = FrameWriter::new(stream);
    while let Some(frame) = outgoing.recv().await {
        writer.push(&frame);
        while writer.pending_bytes() < WRITE_BYTES
            && let Ok(frame) = outgoing.try_recv()
        {
            writer.push(&frame);
        }
        if let Err(error) = writer.flush().await {
            tracing::debug!(%error, "cannot write to the engine");
            return;
        }
    }
}
