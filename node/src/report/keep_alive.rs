//! Liveness: a node that metadata does not hear from is taken for dead, and nobody fetches from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weft_metadata_client::MetadataClient;
use weft_types::{Incarnation, NodeId};

/// Keep-alives in one lease: four, so that two may be lost with time to spare.
const BEATS_PER_LEASE: u32 = 4;

/// Renews the lease while there is one, and says when metadata no longer knows us. A node that leaves gives its lease up
/// first: that it is unknown afterwards is as it should be.
pub(crate) async fn keep_alive(
    metadata: MetadataClient,
    node: NodeId,
    incarnation: Incarnation,
    mut lease: watch::Receiver<Option<Duration>>,
    unknown: Arc<Notify>,
    stop: CancellationToken,
) {
    let beats = async {
        // An outage is one line, and its end another.
        let mut failing = false;
        loop {
            let Ok(Some(term)) = lease.wait_for(Option::is_some).await.map(|lease| *lease) else { return };
            let beat = term / BEATS_PER_LEASE;
            tokio::time::sleep(beat).await;
            if lease.borrow().is_none() {
                continue;
            }
            // A late answer is worth as much as an early one, as long as it comes within the lease.
            match metadata.keep_alive(&node, incarnation, term / 2).await {
                Ok(true) if failing => {
                    tracing::info!("metadata answers again");
                    failing = false;
                }
                Ok(true) => {}
                _ if lease.borrow().is_none() => {}
                Ok(false) => {
                    tracing::warn!(%node, %incarnation, "metadata took this node for dead: joining again");
                    unknown.notify_one();
                    // Joining again takes a moment, and another answer would only say the same.
                    tokio::time::sleep(beat).await;
                }
                Err(_) if failing => {}
                Err(error) => {
                    tracing::warn!(%error, "keep-alive failed: trying again until metadata answers");
                    failing = true;
                }
            }
        }
    };
    tokio::select! {
        () = beats => {}
        () = stop.cancelled() => {}
    }
}
