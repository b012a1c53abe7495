//! What engines left behind: slots that a dead attachment had reserved or pinned stay untouched until no process of it can
//! still write to or read from them.
//!
//! The connection ends when the last process that shares its socket (forked workers) has closed it; the process that
//! attached may outlive it, holding loaded blocks. So its slots are freed when that process has exited too, with all DMA it
//! had in flight, or says itself that it holds none of them any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_attach::{AttachmentId, PeerProcess};
use weft_store::Ledger;

use crate::arenas::ArenaLease;

/// All slots in quarantine.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// Bounded by the slots of the arenas: an attachment that holds none is not here.
    held: Mutex<HashMap<AttachmentId, Left>>,
    /// How long slots are kept when their process cannot be watched.
    blind: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Left {
    pid: Option<i32>,
    arena: ArenaLease,
    ledger: Ledger,
}

impl Left {
    fn free(self) {
        self.ledger.surrender(&mut self.arena.tier());
    }
}

impl Quarantine {
    /// An empty one.
    pub(crate) fn new(blind: Duration, tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), blind, tasks, stop })
    }

    /// Takes what an attachment left behind.
    pub(crate) fn take(
        self: &Arc<Self>,
        attachment: AttachmentId,
        peer: PeerProcess,
        arena: ArenaLease,
        ledger: Ledger,
    ) {
        // With the daemon its memory goes too, as soon as no engine maps it any more.
        if ledger.is_empty() || self.stop.is_cancelled() {
            return;
        }
        tracing::warn!(
            attachment = attachment.0,
            pid = peer.pid,
            "an engine left slots behind: kept until it has exited"
        );
        self.held.lock().insert(attachment, Left { pid: peer.pid, arena, ledger });
        let quarantine = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = gone(peer, quarantine.blind) => quarantine.free(attachment),
                () = quarantine.stop.cancelled() => {}
            }
        });
    }

    /// The process says that it holds nothing of these attachments; only its own are freed.
    pub(crate) fn surrender(&self, pid: Option<i32>, attachments: &[AttachmentId]) {
        for attachment in attachments {
            let own = self.held.lock().get(attachment).is_some_and(|left| left.pid.is_some() && left.pid == pid);
            if own {
                self.free(*attachment);
            }
        }
    }

    /// Attachments that left something behind.
    pub(crate) fn len(&self) -> usize {
        self.held.lock().len()
    }

    fn free(&self, attachment: AttachmentId) {
        let left = self.held.lock().remove(&attachment);
        if let Some(left) = left {
            tracing::info!(attachment = attachment.0, "freed the slots that an engine left behind");
            left.free();
        }
    }
}

async fn gone(peer: PeerProcess, blind: Duration) {
    if let Err(error) = peer.exited().await {
        tracing::debug!(%error, "cannot watch the process: waiting instead");
        tokio::time::sleep(blind).await;
    }
}
