//! Why an engine could not attach.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use weft_attach::{FrameError, RegionError};

/// Why an engine could not attach.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nobody serves the socket, or we may not use it.
    #[error("cannot connect to {socket}: {source}; is the node daemon of this host running, as the same user?", socket = .socket.display())]
    Connect {
        /// Which socket.
        socket: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The daemon said no.
    #[error("the node at {socket} refuses to attach this engine: {reason}", socket = .socket.display())]
    Refused {
        /// Which socket.
        socket: PathBuf,
        /// Fault and remedy, in the daemon's words.
        reason: String,
        /// Whether trying again, unchanged, can help.
        retry: bool,
    },
    /// The daemon did not answer.
    #[error("the node at {socket} did not answer within {after:?}", socket = .socket.display())]
    Deadline {
        /// Which socket.
        socket: PathBuf,
        /// How long we waited.
        after: Duration,
    },
    /// What it said is not the protocol.
    #[error("talking to the node at {socket}: {source}", socket = .socket.display())]
    Protocol {
        /// Which socket.
        socket: PathBuf,
        /// What was wrong.
        #[source]
        source: FrameError,
    },
    /// Its memory cannot be mapped.
    #[error("cannot map the memory of the node at {socket}: {source}", socket = .socket.display())]
    Region {
        /// Which socket.
        socket: PathBuf,
        /// What was wrong.
        #[source]
        source: RegionError,
    },
}

impl AttachError {
    /// Whether it says no more than that no daemon runs.
    pub(crate) fn is_absence(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }
}
