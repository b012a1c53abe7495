//! Where an engine publishes, and how to get there.

use std::time::Duration;

use futures_channel::mpsc;
use tokio::time::{sleep, timeout};
use zeromq::{Endpoint, Socket, SocketEvent, SubSocket};

/// For a connection and its handshake: longer waits in the library make it try less and less often.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Between attempts to reach an engine that is not there.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Addresses of one engine's events, of one data-parallel rank: rank *r* has port + *r* in vLLM and SGLang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Of its PUB socket, such as `tcp://10.0.0.7:5557` (vLLM: `--kv-events-config`, `endpoint`).
    pub address: String,
    /// Of its ROUTER socket, where lost events are had again (vLLM: `replay_endpoint`). Without it a lost event costs all that is
    /// known of the engine.
    pub replay: Option<String>,
    /// Topic to subscribe to; empty: all.
    pub topic: String,
}

/// An address that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is no address of an engine's events ({reason}): expected tcp://HOST:PORT or ipc://PATH, as the engine was told"
)]
pub struct InvalidAddress {
    address: String,
    reason: String,
}

impl Publisher {
    /// Looks at the addresses, without a connection.
    ///
    /// # Errors
    /// One of them is none.
    pub fn check(&self) -> Result<(), InvalidAddress> {
        for address in std::iter::once(&self.address).chain(&self.replay) {
            if let Err(error) = address.parse::<Endpoint>() {
                return Err(InvalidAddress { address: address.clone(), reason: error.to_string() });
            }
        }
        Ok(())
    }

    /// A subscription, with what is heard of its connection; tries until there is one.
    pub(crate) async fn subscribe(&self) -> (SubSocket, mpsc::Receiver<SocketEvent>) {
        loop {
            let mut socket = SubSocket::new();
            let monitor = socket.monitor();
            let connected = async {
                socket.subscribe(&self.topic).await?;
                socket.connect(&self.address).await
            };
            match timeout(CONNECT_WITHIN, connected).await {
                Ok(Ok(())) => return (socket, monitor),
                Ok(Err(error)) => tracing::debug!(publisher = %self.address, %error, "cannot subscribe yet"),
                Err(_) => tracing::debug!(publisher = %self.address, "nobody publishes there yet"),
            }
            sleep(RETRY_AFTER).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_looked_at_before_it_is_used() {
        let publisher = |address: &str, replay: Option<&str>| Publisher {
            address: address.to_owned(),
            replay: replay.map(str::to_owned),
            topic: String::new(),
        };
        publisher("tcp://10.0.0.7:5557", Some("ipc:///run/replay")).check().unwrap();
        for (address, replay) in [("10.0.0.7:5557", None), ("tcp://10.0.0.7", None), ("tcp://h:1", Some("udp://h:2"))] {
            let error = publisher(address, replay).check().unwrap_err().to_string();
            assert!(error.contains(replay.unwrap_or(address)) && error.contains("tcp://HOST:PORT"), "{error}");
        }
    }
}
