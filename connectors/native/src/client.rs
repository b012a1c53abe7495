//! An engine's connection to the node daemon of its host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use weft_node_client::{AttachConfig, NodeClient};
use weft_types::{BlockHash, Incarnation};

use crate::attachment::Attachment;
use crate::buffer::{Readable, Writable};
use crate::contract::Contract;
use crate::hashes;
use crate::lookup::{Answer, Lookup};

/// Threads of a client: reading answers and waking who waits. Bytes are copied by the threads that call.
const THREADS: usize = 2;

/// Prefetches in flight: 64. One beyond is not made, since it is advice.
const PREFETCHES_MAX: usize = 64;

/// Longest deadline there is.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// Attached to the node daemon behind a unix socket, or about to be: construction does not wait, and a daemon that goes is
/// attached to again when it is back. All calls are safe from any thread.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct Client {
    attachment: Arc<Attachment>,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    prefetches: Arc<Semaphore>,
    block_bytes: usize,
}

/// What a store did.
#[pyclass(frozen, get_all, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct Stored {
    /// Blocks written now.
    pub(crate) stored: usize,
    /// Blocks the node had already.
    pub(crate) present: usize,
    /// Blocks refused: no room, or no daemon.
    pub(crate) refused: usize,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (socket, contract, *, endpoint, url, deadline=1.0, incarnation=None))]
    fn new(
        socket: PathBuf,
        contract: &Contract,
        endpoint: &str,
        url: String,
        deadline: f64,
        incarnation: Option<u64>,
    ) -> PyResult<Self> {
        let config = AttachConfig {
            socket,
            endpoint: endpoint.parse().map_err(|error| PyValueError::new_err(format!("endpoint: {error}")))?,
            url,
            incarnation: Incarnation::new(incarnation.unwrap_or_else(boot_counter)),
            contract: contract.inner.clone(),
            deadline: duration(deadline)?,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("weft-client")
            .enable_all()
            .build()
            .map_err(|error| PyRuntimeError::new_err(format!("cannot start the threads of the client: {error}")))?;
        let attachment = Arc::<Attachment>::default();
        runtime.spawn(Arc::clone(&attachment).establish(config));
        Ok(Self {
            attachment,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            prefetches: Arc::new(Semaphore::new(PREFETCHES_MAX)),
            block_bytes: contract.block_bytes,
        })
    }

    /// Whether the daemon is there now.
    #[getter]
    fn attached(&self) -> bool {
        self.live().is_some()
    }

    /// Why it has never been attached; `None` once it has.
    #[getter]
    fn fault(&self) -> Option<String> {
        self.attachment.fault()
    }

    /// Pins the longest leading run of `blocks` that the node has or fetches from others within `deadline` seconds. Returns at
    /// once.
    fn lookup(&self, blocks: &Bound<'_, PyAny>, deadline: f64) -> PyResult<Lookup> {
        let (blocks, deadline) = (hashes::from_python(blocks)?, duration(deadline)?);
        let answer = Arc::<Answer>::default();
        let Some(client) = self.live().filter(|_| !blocks.is_empty()) else {
            answer.put(Vec::new());
            return Ok(Lookup::new(answer, None, self.block_bytes));
        };
        let put = Arc::clone(&answer);
        let task = self.handle.spawn(async move { put.put(client.load(&blocks, deadline).await) });
        Ok(Lookup::new(answer, Some(task.abort_handle()), self.block_bytes))
    }

    /// Loads the longest leading run of `blocks` into `out`, a buffer of as many rows, within `deadline` seconds. Returns how
    /// many came.
    fn load(
        &self,
        py: Python<'_>,
        blocks: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        deadline: f64,
    ) -> PyResult<usize> {
        let (blocks, deadline) = (hashes::from_python(blocks)?, duration(deadline)?);
        let mut out = Writable::of(out, self.bytes_of(&blocks)?)?;
        Ok(py.detach(|| {
            let Some(client) = self.live() else { return 0 };
            let run = self.handle.block_on(client.load(&blocks, deadline));
            let rows = run.iter().zip(out.bytes().chunks_exact_mut(self.block_bytes));
            rows.map_while(|(block, row)| {
                (block.bytes().len() == row.len()).then(|| row.copy_from_slice(block.bytes()))
            })
            .count()
        }))
    }

    /// Stores those of `blocks`, a prefix or a run of one, that the node lacks: `rows` is a buffer with a row for each.
    fn store(&self, py: Python<'_>, blocks: &Bound<'_, PyAny>, rows: &Bound<'_, PyAny>) -> PyResult<Stored> {
        let blocks = hashes::from_python(blocks)?;
        let rows = Readable::of(rows, self.bytes_of(&blocks)?)?;
        Ok(py.detach(|| {
            let Some(client) = self.live() else { return Stored { stored: 0, present: 0, refused: blocks.len() } };
            let (rows, bytes) = (rows.bytes(), self.block_bytes);
            // A slot is as long as the contract says, and the node was attached to with this contract.
            let fill = |number: usize, slot: &mut [u8]| slot.copy_from_slice(&rows[number * bytes..][..bytes]);
            let done = self.handle.block_on(client.store(&blocks, fill));
            Stored { stored: done.stored, present: done.present, refused: done.refused }
        }))
    }

    /// Has the node fetch what it lacks of a prefix, in the background. Returns whether it was asked.
    fn prefetch(&self, blocks: &Bound<'_, PyAny>, deadline: f64) -> PyResult<bool> {
        let (blocks, deadline) = (hashes::from_python(blocks)?, duration(deadline)?);
        let (Some(client), Ok(permit)) = (self.live(), Arc::clone(&self.prefetches).try_acquire_owned()) else {
            return Ok(false);
        };
        self.handle.spawn(async move {
            let _permit = permit;
            // The pins are given back at once: what was fetched stays as long as it is used.
            drop(client.load(&blocks, deadline).await);
        });
        Ok(true)
    }

    /// Reports what came to and went from the engine's own cache on its device. Never waits.
    fn device_changed(&self, stored: &Bound<'_, PyAny>, removed: &Bound<'_, PyAny>) -> PyResult<()> {
        let (stored, removed) = (hashes::from_python(stored)?, hashes::from_python(removed)?);
        if let Some(client) = self.attachment.client() {
            client.device_changed(&stored, &removed);
        }
        Ok(())
    }

    /// Detaches: the endpoint leaves the cluster's roster. Afterwards every load is a miss.
    fn close(&self, py: Python<'_>) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        py.detach(|| {
            if let Some(client) = self.attachment.client() {
                runtime.block_on(client.detach());
            }
            runtime.shutdown_background();
        });
    }
}

impl Client {
    pub(crate) fn live(&self) -> Option<NodeClient> {
        self.attachment.client().filter(|client| client.is_attached() && self.runtime.lock().is_some()).cloned()
    }

    /// Stores from a thread of Python's, batch by batch.
    pub(crate) fn store_together(
        &self,
        blocks: &[BlockHash],
        fill: impl FnMut(&mut [(usize, &mut [u8])]) -> bool + Send,
    ) -> Stored {
        let Some(client) = self.live() else { return Stored { stored: 0, present: 0, refused: blocks.len() } };
        let done = self.wait_for(client.store_together(blocks, fill));
        Stored { stored: done.stored, present: done.present, refused: done.refused }
    }

    /// Waits, in a thread of Python's, for what the client does.
    pub(crate) fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    fn bytes_of(&self, blocks: &[BlockHash]) -> PyResult<usize> {
        blocks.len().checked_mul(self.block_bytes).ok_or_else(|| PyValueError::new_err("too many blocks"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads; the interpreter should not.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// Larger at every start of an engine: its time, in milliseconds.
fn boot_counter() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map(|duration| duration.min(DEADLINE_MAX))
        .map_err(|_| PyValueError::new_err(format!("a deadline of {seconds} s: expected seconds, not negative")))
}
