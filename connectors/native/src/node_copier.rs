//! Copies that the node makes by itself, from and to an engine's KV cache on a GPU: the engine only says which pages, and when.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use weft_gpu::{GpuError, Stream, ipc};
use weft_node_client::LoadedBlock;

use crate::client::{Client, Stored};
use crate::gpu::{GpuCopier, event, raised, rows};
use crate::hashes;
use crate::lookup::Lookup;

/// Asks whatever node is attached to for copies. All calls are safe from any thread; they wait until the node is done with the
/// pages, however long that is.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct NodeCopier {
    relay: Mutex<Relay>,
    ratio: usize,
}

/// What the node waits for: an event of ours, behind the engine's.
#[derive(Debug)]
struct Relay {
    stream: Stream,
    ready: ipc::Ready,
}

#[pymethods]
impl NodeCopier {
    /// Offers a copier's cache to the node. Raises when the node does not take it (`gpu_copies` is off, say), or its memory cannot
    /// be offered.
    #[new]
    fn new(py: Python<'_>, copier: &GpuCopier, client: &Client) -> PyResult<Self> {
        py.detach(|| {
            let gpu = copier.cache().gpu();
            let relay = || Ok::<_, GpuError>(Relay { stream: Stream::new(gpu)?, ready: ipc::Ready::new(gpu)? });
            let relay = relay().map_err(raised)?;
            let shared = ipc::export(copier.cache(), &relay.ready).map_err(raised)?;
            let node = client.live().ok_or_else(|| PyRuntimeError::new_err("no node is attached to"))?;
            client.wait_for(node.share_cache(shared)).map_err(PyRuntimeError::new_err)?;
            Ok(Self { relay: Mutex::new(relay), ratio: copier.cache().ratio() })
        })
    }

    /// As `GpuCopier.load`, but waits; how many of `blocks` came, from the first.
    #[pyo3(signature = (client, lookup, blocks, *, first, skip, after))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python, each by its name")]
    fn load(
        &self,
        py: Python<'_>,
        client: &Client,
        lookup: &Lookup,
        blocks: Vec<u32>,
        first: usize,
        skip: usize,
        after: usize,
    ) -> PyResult<usize> {
        let wanted = rows(&blocks, skip, self.ratio)?.len();
        py.detach(|| {
            let held = lookup.held(first, wanted);
            let Some(node) = client.live().filter(|_| !held.is_empty()) else { return Ok(0) };
            self.record(after)?;
            let held: Vec<&LoadedBlock> = held.iter().map(Arc::as_ref).collect();
            let skip = u32::try_from(skip).unwrap_or(u32::MAX);
            Ok(client.wait_for(node.load_pages(&held, skip, &blocks)))
        })
    }

    /// As `GpuCopier.store`.
    #[pyo3(signature = (client, hashes, blocks, *, after))]
    fn store(
        &self,
        py: Python<'_>,
        client: &Client,
        hashes: &Bound<'_, PyAny>,
        blocks: Vec<u32>,
        after: usize,
    ) -> PyResult<Stored> {
        let hashes = hashes::from_python(hashes)?;
        py.detach(|| {
            let Some(node) = client.live() else { return Ok(Stored { stored: 0, present: 0, refused: hashes.len() }) };
            self.record(after)?;
            let done = client.wait_for(node.store_pages(&hashes, &blocks));
            Ok(Stored { stored: done.stored, present: done.present, refused: done.refused })
        })
    }
}

impl NodeCopier {
    /// Puts our event behind the engine's. A later record only makes who waits for an earlier one wait longer.
    fn record(&self, after: usize) -> PyResult<()> {
        let relay = self.relay.lock();
        let held = event(after).map_or(Ok(()), |event| relay.stream.wait_for_engine(event));
        held.and_then(|()| relay.ready.record_on(relay.stream.as_engine())).map_err(|error| raised(error.into()))
    }
}
