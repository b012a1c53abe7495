//! Gets a client attached, however long that takes: an engine may be started before its node, and must not wait for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use weft_node_client::{AttachConfig, NodeClient};

/// First wait before another attempt.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait: what a daemon that comes up waits for its engines at most. An attempt is one connection to a unix socket.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The client, once it is there. After that it keeps itself attached.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    client: OnceLock<NodeClient>,
    fault: Mutex<Option<String>>,
}

impl Attachment {
    /// The client, if it has ever been attached.
    pub(crate) fn client(&self) -> Option<&NodeClient> {
        self.client.get()
    }

    /// Why it has not been attached yet.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Tries until it is attached.
    pub(crate) async fn establish(self: Arc<Self>, config: AttachConfig) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match NodeClient::attach(config.clone()).await {
                Ok(client) => {
                    *self.fault.lock() = None;
                    // Nobody else sets it.
                    drop(self.client.set(client));
                    return;
                }
                Err(error) => {
                    let said = error.to_string();
                    let before = self.fault.lock().replace(said.clone());
                    if before.as_ref() != Some(&said) {
                        tracing::warn!(error = %said, "not attached: the engine runs without weft until this is mended");
                    }
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}
