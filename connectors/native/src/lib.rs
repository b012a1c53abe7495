//! `weft_kv._native`: the node client for Python, under the typed package `weft_kv`.
//!
//! ```text
//!   Client ──► Lookup   pins a prefix at the node, in the background; copied out when the engine has room for it
//!          ──► store    rows of a buffer become blocks
//!   GpuCopier           the same, between the node's memory and an engine's cache on a GPU, without a buffer between
//!   NodeCopier          has the node do that by itself
//!   BlockHasher         weft block hash v1: of tokens, never of the engine's own hashes
//! ```
//!
//! # Invariants
//! - what waits does so without the interpreter lock, and never longer than a deadline;
//! - what the daemon does (die, hang, refuse, come back) is never an exception: a load is a miss, a store is refused. What
//!   raises is misuse: a hash of 31 bytes, a buffer that is too short;
//! - the memory shared with the node is never handed to Python: bytes are copied from and to buffers of the caller, whose
//!   length was checked.

mod attachment;
mod buffer;
mod client;
mod contract;
mod gpu;
mod hasher;
mod hashes;
mod lookup;
mod node_copier;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::client::{Client, Stored};
    #[pymodule_export]
    use crate::contract::Contract;
    #[pymodule_export]
    use crate::gpu::{Arriving, GpuCopier};
    #[pymodule_export]
    use crate::hasher::BlockHasher;
    #[pymodule_export]
    use crate::lookup::Lookup;
    #[pymodule_export]
    use crate::node_copier::NodeCopier;

    #[pymodule_export]
    use crate::log_to_stderr;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Lets what the client logs be seen: on stderr, from `level` up. The first call counts.
#[pyfunction]
fn log_to_stderr(level: &str) -> PyResult<()> {
    let level: tracing::level_filters::LevelFilter = level.parse().map_err(|_| {
        pyo3::exceptions::PyValueError::new_err(format!("'{level}' is no level: expected info, warn, …"))
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(level)
        .with_target(false);
    // Who embeds us may have set a subscriber of its own: then it sees what is logged.
    drop(subscriber.try_init());
    Ok(())
}
