//! Keeps an engine attached: waits for the link to break, then connects again, ever more patiently.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

use crate::client::AttachConfig;
use crate::error::AttachError;
use crate::link::{Keepsake, Link};

/// First wait after a link broke: a daemon that restarts is back in about as much.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Longest wait: what a daemon that is back waits for its engines at most.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Replaces the link whenever it breaks, until the client is gone or says stop.
pub(crate) async fn supervise(
    config: AttachConfig,
    keepsake: Arc<Keepsake>,
    current: Weak<ArcSwapOption<Link>>,
    stop: CancellationToken,
) {
    loop {
        let Some(link) = current.upgrade().and_then(|current| current.load_full()) else { return };
        let announced = tokio::select! {
            () = link.closed().cancelled() => link.is_ending(),
            () = stop.cancelled() => {
                link.closed().cancel();
                true
            }
        };
        drop(link);
        let Some(slot) = current.upgrade() else { return };
        slot.store(None);
        drop(slot);
        if !announced {
            let socket = config.socket.display();
            tracing::warn!(%socket, "detached: loads miss and stores are refused until the daemon is back");
        }
        let link = tokio::select! {
            link = reconnect(&config, &keepsake) => link,
            () = stop.cancelled() => return,
        };
        let Some(slot) = current.upgrade() else { return link.closed().cancel() };
        slot.store(Some(link));
    }
}

async fn reconnect(config: &AttachConfig, keepsake: &Arc<Keepsake>) -> Arc<Link> {
    let mut backoff = BACKOFF_MIN;
    let mut said = String::new();
    loop {
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        match Link::open(config, keepsake).await {
            Ok(link) => return link,
            // As was said when the link ended.
            Err(error) if error.is_absence() => {}
            Err(error) => {
                if matches!(error, AttachError::Refused { retry: false, .. }) {
                    // Whoever has to mend that takes longer than a restart.
                    backoff = BACKOFF_MAX;
                }
                let error = error.to_string();
                if said != error {
                    tracing::warn!(%error, "cannot attach again yet");
                    said = error;
                }
            }
        }
    }
}
