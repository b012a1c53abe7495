//! Following the KV-cache events of an engine over ZeroMQ: from a subscription, with replay of what was missed, to weft
//! blocks that come and go.
//!
//! ```text
//!   engine PUB ────► SUB ──► number: next? ──► DeviceBlocks ──► what changed
//!   engine ROUTER ◄──► DEALER     │ no: replay from the first that is missing
//! ```
//!
//! # Invariants
//! - what is said to be held is held, as far as the engine told: when events are lost and can't be had again, or the engine
//!   goes or begins anew, all of it is taken back first;
//! - one batch is in work at a time; an engine that publishes faster than it is followed drops batches, which is seen by
//!   their numbers.

mod publisher;
mod replay;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use weft_events::{Arrival, Batch, BlockChange, DeviceBlocks, LeftOut, Sequence};
use zeromq::{SocketEvent, SocketRecv, ZmqMessage};

pub use publisher::{InvalidAddress, Publisher};

/// What became of an engine's events, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    batches: AtomicU64,
    replayed: AtomicU64,
    lost: AtomicU64,
    malformed: AtomicU64,
    restarts: AtomicU64,
    left_out: AtomicU64,
    resident: AtomicU64,
}

/// [`Progress`] at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// There is a connection.
    pub connected: bool,
    /// Batches applied, replayed ones included.
    pub batches: u64,
    /// Batches had again.
    pub replayed: u64,
    /// Batches lost for good; all that was known was forgotten then.
    pub lost: u64,
    /// Messages that were no batch.
    pub malformed: u64,
    /// How often the engine was gone, or counted from 0 again.
    pub restarts: u64,
    /// Engine blocks that were not understood, for whatever reason.
    pub left_out: u64,
    /// Weft blocks held now.
    pub resident: u64,
}

impl Progress {
    /// As it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            connected: self.connected.load(Ordering::Relaxed),
            batches: count(&self.batches),
            replayed: count(&self.replayed),
            lost: count(&self.lost),
            malformed: count(&self.malformed),
            restarts: count(&self.restarts),
            left_out: count(&self.left_out),
            resident: count(&self.resident),
        }
    }
}

/// Follows an engine until `stop`; `changed` gets what changed, in order. Connects again whenever the connection is lost, and
/// waits for an engine that is not there yet.
pub async fn follow(
    publisher: &Publisher,
    blocks: DeviceBlocks,
    progress: &Progress,
    changed: impl FnMut(&[BlockChange]) + Send,
    stop: &CancellationToken,
) {
    let feed =
        Feed { publisher, progress, blocks, sequence: Sequence::default(), changes: Vec::new(), resident: 0, changed };
    tokio::select! {
        () = feed.run() => {}
        () = stop.cancelled() => {}
    }
}

struct Feed<'a, F> {
    publisher: &'a Publisher,
    progress: &'a Progress,
    blocks: DeviceBlocks,
    sequence: Sequence,
    changes: Vec<BlockChange>,
    /// Blocks stored and not removed, as far as was told.
    resident: usize,
    changed: F,
}

/// A batch as it is published, or replayed.
struct Numbered {
    number: u64,
    payload: Bytes,
}

impl<F: FnMut(&[BlockChange]) + Send> Feed<'_, F> {
    async fn run(mut self) {
        loop {
            let (mut socket, mut monitor) = self.publisher.subscribe().await;
            self.progress.connected.store(true, Ordering::Relaxed);
            tracing::info!(publisher = %self.publisher.address, "following the KV-cache events of an engine");
            self.have_replayed().await;
            loop {
                let heard = tokio::select! {
                    // Whatever came before the connection was lost is of no use after it.
                    biased;
                    event = monitor.next() => match event {
                        Some(SocketEvent::Disconnected(_)) | None => break,
                        Some(_) => continue,
                    },
                    message = socket.recv() => message,
                };
                match heard {
                    Ok(message) => match parse(&message) {
                        Some(numbered) => self.hear(numbered).await,
                        None => self.malformed("expected topic, number and payload"),
                    },
                    Err(error) => {
                        tracing::debug!(%error, "the subscription ended");
                        break;
                    }
                }
            }
            self.progress.connected.store(false, Ordering::Relaxed);
            tracing::info!(publisher = %self.publisher.address, "an engine that published KV-cache events is gone");
            self.begin_anew();
            self.sequence = Sequence::default();
        }
    }

    async fn hear(&mut self, batch: Numbered) {
        match self.sequence.arrive(batch.number) {
            Arrival::Next | Arrival::Gap => {}
            Arrival::Repeated => return,
            Arrival::Restarted => {
                tracing::info!(publisher = %self.publisher.address, "an engine began anew");
                self.begin_anew();
            }
        }
        if self.sequence.next() < batch.number {
            self.catch_up(batch.number).await;
        }
        if self.sequence.next() <= batch.number {
            self.take(&batch);
        }
    }

    /// Has the batches from the next one to before `to` replayed; what can't be had is lost.
    async fn catch_up(&mut self, to: u64) {
        self.have_replayed().await;
        let from = self.sequence.next();
        if from < to {
            tracing::warn!(publisher = %self.publisher.address, "batches {from} to {} can't be had again", to - 1);
            self.lose(to);
        }
    }

    /// Has whatever comes next replayed, as far as the engine still has it: an engine may be silent for long.
    async fn have_replayed(&mut self) {
        let replayed = replay::from(self.publisher, self.sequence.next(), |batch| {
            if batch.number > self.sequence.next() {
                self.lose(batch.number);
            }
            if batch.number == self.sequence.next() {
                self.progress.replayed.fetch_add(1, Ordering::Relaxed);
                self.take(&batch);
            }
        });
        match replayed.await {
            Ok(()) | Err(replay::ReplayError::NoAddress) => {}
            Err(error) => tracing::warn!(publisher = %self.publisher.address, %error, "no replay"),
        }
    }

    /// The batches up to before `to` are lost, and with them the knowledge of what is held.
    fn lose(&mut self, to: u64) {
        // Whoever comes late knows nothing yet that could be wrong.
        if self.sequence.next() > 0 {
            self.progress.lost.fetch_add(to - self.sequence.next(), Ordering::Relaxed);
            self.blocks.clear(&mut self.changes);
            self.tell();
        }
        self.sequence.taken(to - 1);
    }

    fn take(&mut self, batch: &Numbered) {
        self.sequence.taken(batch.number);
        self.progress.batches.fetch_add(1, Ordering::Relaxed);
        match Batch::decode(&batch.payload) {
            Ok(batch) => batch.events.into_iter().for_each(|event| self.blocks.apply(event, &mut self.changes)),
            Err(error) => {
                self.malformed(&error.to_string());
                // Whatever it said is not known now.
                self.blocks.clear(&mut self.changes);
            }
        }
        self.tell();
    }

    fn begin_anew(&mut self) {
        self.progress.restarts.fetch_add(1, Ordering::Relaxed);
        self.blocks.clear(&mut self.changes);
        self.tell();
    }

    fn malformed(&self, reason: &str) {
        self.progress.malformed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(publisher = %self.publisher.address, "a message of an engine was left out: {reason}");
    }

    fn tell(&mut self) {
        let LeftOut { orphans, misfits, unknown_adapters, beyond_bound } = self.blocks.left_out();
        self.progress.left_out.store(orphans + misfits + unknown_adapters + beyond_bound, Ordering::Relaxed);
        if !self.changes.is_empty() {
            let stored = self.changes.iter().filter(|change| matches!(change, BlockChange::Stored(_))).count();
            self.resident = self.resident + stored - (self.changes.len() - stored);
            self.progress.resident.store(self.resident as u64, Ordering::Relaxed);
            (self.changed)(&self.changes);
            self.changes.clear();
        }
    }
}

/// Topic, number, payload; a replay has an empty frame before them.
fn parse(message: &ZmqMessage) -> Option<Numbered> {
    let frames: Vec<&Bytes> = message.iter().skip_while(|frame| frame.is_empty() && message.len() > 3).collect();
    let [_topic, number, payload] = frames.as_slice() else { return None };
    Some(Numbered { number: u64::from_be_bytes(number.as_ref().try_into().ok()?), payload: (*payload).clone() })
}
