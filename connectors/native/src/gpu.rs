//! Copies between the node's memory and an engine's KV cache on a GPU, for Python.
//!
//! Streams and events come as the numbers that PyTorch has for them (`stream.cuda_stream`, `event.cuda_event`); that they are such,
//! and live until the call returns (a stream: until what was asked of it is done), is the caller's promise, as it is for every
//! library that is given one. Addresses are checked: the driver says whose memory they are.
#![expect(unsafe_code, reason = "streams and events of PyTorch come as numbers")]

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use weft_gpu::{Cache, Copier, EngineEvent, EngineStream, Gpu, GpuError, Layer, Row};
use weft_node_client::LoadedBlock;

use crate::client::{Client, Stored};
use crate::hashes;
use crate::lookup::Lookup;

/// Copies between one cache and the memory of whatever node is attached to. All calls are safe from any thread.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct GpuCopier {
    copier: Copier,
}

/// Blocks on their way to the device. The node's memory is held until they are there.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct Arriving {
    /// Engine's blocks.
    pages: usize,
    /// `None` once they are there.
    blocks: Mutex<Option<weft_gpu::Arriving<Held>>>,
}

/// A block of a lookup, beside the lookup.
#[derive(Debug)]
struct Held(Arc<LoadedBlock>);

impl GpuCopier {
    pub(crate) fn cache(&self) -> &Cache {
        self.copier.cache()
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[pymethods]
impl GpuCopier {
    /// For the cache of `layers` (addresses of block 0 of each) on a device, with as many blocks of so many bytes each, so far
    /// apart; `ratio` of them make one of weft's. Raises when there is no such device, or the cache is not on it.
    #[new]
    #[pyo3(signature = (device, layers, *, blocks, block_bytes, stride_bytes, ratio))]
    fn new(
        py: Python<'_>,
        device: u32,
        layers: Vec<u64>,
        blocks: u32,
        block_bytes: usize,
        stride_bytes: u64,
        ratio: usize,
    ) -> PyResult<Self> {
        let layers: Vec<_> = layers.into_iter().map(|address| Layer { address }).collect();
        let copier = py.detach(|| {
            let gpu = Gpu::open(device)?;
            tracing::info!(device, name = gpu.found().name, batches = gpu.batches(), "copies to and from the GPU");
            Copier::new(Cache::new(&gpu, &layers, (blocks, block_bytes, stride_bytes), ratio)?)
        });
        Ok(Self { copier: copier.map_err(raised)? })
    }

    /// Registers the memory that is shared with the node, unless it is already; whether it is now. It takes a moment: a third of
    /// a second a GiB.
    fn pin(&self, py: Python<'_>, client: &Client) -> bool {
        py.detach(|| {
            let region = client.live().and_then(|client| client.region());
            region.is_some_and(|region| self.copier.pin(&region))
        })
    }

    /// Begins to copy what a lookup has, from its block number `first` on, into `blocks` of the engine; of the first of weft's blocks
    /// the first `skip` of the engine's are not wanted. After the event `after` (0: at once). Raises when the GPU fails.
    #[pyo3(signature = (lookup, blocks, *, first, skip, after))]
    fn load(
        &self,
        py: Python<'_>,
        lookup: &Lookup,
        blocks: Vec<u32>,
        first: usize,
        skip: usize,
        after: usize,
    ) -> PyResult<Arriving> {
        let ratio = self.copier.cache().ratio();
        let rows = rows(&blocks, skip, ratio)?;
        py.detach(|| {
            let held = lookup.held(first, rows.len());
            let rows: Vec<_> = rows.into_iter().zip(held.into_iter().map(Held)).collect();
            let pages = rows.iter().map(|(row, _)| row.pages.len()).sum();
            let blocks = self.copier.load(rows, event(after)).map_err(raised)?;
            Ok(Arriving { pages, blocks: Mutex::new(Some(blocks)) })
        })
    }

    /// Stores those of `hashes` that the node lacks, from `blocks` of the engine, `ratio` for each, after the event `after` (0: at
    /// once). Returns when they are stored.
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
        let rows = rows(&blocks, 0, self.copier.cache().ratio())?;
        if rows.len() != hashes.len() || rows.iter().any(|row| row.pages.len() != self.copier.cache().ratio()) {
            let (got, ratio) = (blocks.len(), self.copier.cache().ratio());
            return Err(PyValueError::new_err(format!(
                "{got} blocks for {} hashes: expected {ratio} each",
                hashes.len()
            )));
        }
        Ok(py.detach(|| {
            client.store_together(&hashes, |slots| {
                let mut batch: Vec<_> = slots.iter_mut().map(|(at, slot)| (rows[*at].clone(), &mut **slot)).collect();
                match self.copier.store(&mut batch, event(after)) {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(%error, "cannot copy from the GPU: not stored");
                        false
                    }
                }
            })
        }))
    }
}

#[pymethods]
impl Arriving {
    /// The engine's blocks that are coming.
    fn __len__(&self) -> usize {
        self.pages
    }

    /// Has a stream wait for a layer. Raises when the GPU fails.
    fn wait_layer(&self, layer: usize, stream: usize) -> PyResult<()> {
        // SAFETY: a stream of PyTorch's, as the caller promises.
        let stream = unsafe { EngineStream::from_raw(stream) };
        let blocks = self.blocks.lock();
        blocks.as_ref().map_or(Ok(()), |blocks| blocks.wait_layer(layer, stream)).map_err(|error| raised(error.into()))
    }

    /// Whether they are there. Raises when the GPU failed.
    #[getter]
    fn done(&self) -> PyResult<bool> {
        let mut blocks = self.blocks.lock();
        let done = blocks.as_ref().map_or(Ok(true), weft_gpu::Arriving::is_done);
        if matches!(done, Ok(true)) {
            *blocks = None;
        }
        done.map_err(|error| raised(error.into()))
    }

    /// Waits until they are. Raises when the GPU failed.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let blocks = self.blocks.lock().take();
            blocks.map_or(Ok(()), weft_gpu::Arriving::wait).map_err(|error| raised(error.into()))
        })
    }
}

/// The engine's blocks as rows of weft's: `skip` of the first are left out.
pub(crate) fn rows(blocks: &[u32], skip: usize, ratio: usize) -> PyResult<Vec<Row>> {
    if skip >= ratio {
        return Err(PyValueError::new_err(format!(
            "skip is {skip}: expected less than the {ratio} blocks of one of weft's"
        )));
    }
    let (front, rest) = blocks.split_at(blocks.len().min(ratio - skip));
    let first = (!front.is_empty()).then(|| Row { skip, pages: front.to_vec() });
    let others = rest.chunks(ratio).map(|pages| Row { skip: 0, pages: pages.to_vec() });
    Ok(first.into_iter().chain(others).collect())
}

/// An event of PyTorch's.
pub(crate) fn event(number: usize) -> Option<EngineEvent> {
    // SAFETY: an event of PyTorch's, as the caller promises.
    (number != 0).then(|| unsafe { EngineEvent::from_raw(number) })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn raised(error: GpuError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
