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

mod progress;
mod publisher;
mod replay;
mod shown;

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use weft_events::{Arrival, Batch, BlockChange, DeviceBlocks, LeftOut, Sequence};
use zeromq::{SocketEvent, SocketRecv, ZmqMessage};

pub use progress::{Progress, Snapshot};
pub use publisher::{InvalidAddress, Publisher};
pub use shown::register;

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
    progress.connected.send_replace(false);
    progress.resident.store(0, Ordering::Relaxed);
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
            self.progress.connected.send_replace(true);
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
            tracing::info!(publisher = %self.publisher.address, "an engine that published KV-cache events is gone");
            self.begin_anew();
            self.progress.connected.send_replace(false);
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
            Ok(batch) => {
                self.progress.tell_lag(batch.published, now());
                batch.events.into_iter().for_each(|event| self.blocks.apply(event, &mut self.changes));
            }
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

#[expect(clippy::disallowed_methods, reason = "it says how late an event is, and decides nothing")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Topic, number, payload; a replay has an empty frame before them.
fn parse(message: &ZmqMessage) -> Option<Numbered> {
    let frames: Vec<&Bytes> = message.iter().skip_while(|frame| frame.is_empty() && message.len() > 3).collect();
    let [_topic, number, payload] = frames.as_slice() else { return None };
    Some(Numbered { number: u64::from_be_bytes(number.as_ref().try_into().ok()?), payload: (*payload).clone() })
}
