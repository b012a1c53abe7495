//! What an engine links: attach to the node daemon, load and store blocks through shared memory. No QUIC in it.
use std::path::PathBuf;
use std::time::Duration;
use weft_types::{BlockHash, Contract, EndpointId, Incarnation};

/// How to attach.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// The node's unix socket.
    pub socket: PathBuf,
    /// Our name, by configuration.
    pub endpoint: EndpointId,
    /// Base URL of our OpenAI API, as routers reach it.
    pub url: String,
    /// Boot counter of this engine.
    pub incarnation: Incarnation,
    /// What we bring.
    pub contract: Contract,
    /// Longest wait for any answer of the daemon but a load's.
    pub deadline: Duration,
}

/// Where a loaded block came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoadSource {
    /// This node's arena.
    Host,
    /// This node's disk.
    Disk,
    /// Object storage.
    Object,
    /// Another node.
    Peer,
}

/// Why an engine could not attach.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Placeholder.
    #[error("cannot attach to {socket}: {reason}", socket = .socket.display())]
    Failed {
        /// Which socket.
        socket: PathBuf,
        /// Fault and remedy.
        reason: String,
    },
}

/// Attached engine. Clone is cheap. When the daemon goes, every load is a miss and every store a no-op until it is back:
/// the client re-attaches by itself.
#[derive(Clone, Debug)]
pub struct NodeClient {}

/// What a store did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// Blocks written and committed now.
    pub stored: usize,
    /// Blocks the node had already.
    pub present: usize,
    /// Blocks refused (no space, no daemon).
    pub refused: usize,
}

/// A pinned block of the arena; dropping it releases the pin.
#[derive(Debug)]
pub struct LoadedBlock {}

impl NodeClient {
    /// Attaches once; an error says what was wrong. Afterwards it keeps itself attached.
    pub async fn attach(_config: AttachConfig) -> Result<Self, AttachError> {
        unimplemented!()
    }
    /// Whether the daemon is there now.
    pub fn is_attached(&self) -> bool {
        unimplemented!()
    }
    /// Pins the longest leading run of `blocks` that the node has or can fetch before the deadline. Never an error: a miss is an empty answer.
    pub async fn load(&self, _blocks: &[BlockHash], _deadline: Duration) -> Vec<LoadedBlock> {
        unimplemented!()
    }
    /// Stores the blocks the node lacks: reserve → `fill(position in blocks, slot bytes)` → commit with checksum.
    pub async fn store<F: FnMut(usize, &mut [u8]) + Send>(&self, _blocks: &[BlockHash], _fill: F) -> Stored {
        unimplemented!()
    }
    /// Reports changes of this engine's device tier (rank 0), in order; bounded, never waits: overflow makes the node resync.
    pub fn device_changed(&self, _stored: &[BlockHash], _removed: &[BlockHash]) {
        unimplemented!()
    }
    /// Detaches properly: the endpoint leaves the roster.
    pub async fn detach(&self) {
        unimplemented!()
    }
}

impl LoadedBlock {
    /// The block's bytes, read-only, valid while this lives.
    pub fn bytes(&self) -> &[u8] {
        unimplemented!()
    }
    /// Whose block.
    pub fn hash(&self) -> BlockHash {
        unimplemented!()
    }
    /// Where from.
    pub fn source(&self) -> LoadSource {
        unimplemented!()
    }
}
