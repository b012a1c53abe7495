//! A prefix that is being pinned, or is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;
use weft_node_client::{LoadSource, LoadedBlock};

use crate::buffer::Writable;

/// Longest a caller may wait in one call.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The longest leading run of a prefix that the node has or fetches in time. It comes in the background; once it is here, its
/// blocks stay until they are released.
#[pyclass(frozen, module = "weft_kv._native")]
pub(crate) struct Lookup {
    pub(crate) shared: Arc<Answer>,
    task: Option<AbortHandle>,
    block_bytes: usize,
}

/// Where the answer is put.
#[derive(Default)]
pub(crate) struct Answer {
    run: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    done: bool,
    /// Shared with copies that are on their way.
    blocks: Vec<Arc<LoadedBlock>>,
}

impl Answer {
    /// Puts it there.
    pub(crate) fn put(&self, blocks: Vec<LoadedBlock>) {
        let blocks = blocks.into_iter().map(Arc::new).collect();
        *self.run.lock() = State { done: true, blocks };
        self.came.notify_all();
    }
}

impl Lookup {
    pub(crate) fn new(shared: Arc<Answer>, task: Option<AbortHandle>, block_bytes: usize) -> Self {
        Self { shared, task, block_bytes }
    }
}

#[pymethods]
impl Lookup {
    /// Whether the answer is here.
    #[getter]
    fn done(&self) -> bool {
        self.shared.run.lock().done
    }

    /// Waits for the answer, at most `seconds`; whether it is here.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_MAX).min(WAIT_MAX);
        py.detach(|| {
            let until = Instant::now() + wait;
            let mut run = self.shared.run.lock();
            while !run.done && !self.shared.came.wait_until(&mut run, until).timed_out() {}
            run.done
        })
    }

    /// Blocks that are pinned: none before the answer is here, none after they were released.
    fn __len__(&self) -> usize {
        self.shared.run.lock().blocks.len()
    }

    /// Where each block came from: `host`, `disk`, `object` or `peer`.
    #[getter]
    fn sources(&self) -> Vec<&'static str> {
        let source = |block: &Arc<LoadedBlock>| match block.source() {
            LoadSource::Host => "host",
            LoadSource::Disk => "disk",
            LoadSource::Object => "object",
            LoadSource::Peer => "peer",
        };
        self.shared.run.lock().blocks.iter().map(source).collect()
    }

    /// Copies `count` blocks from number `first` on into `out`, a buffer of as many rows. Returns how many were copied: fewer
    /// when they were released meanwhile.
    fn copy_into(&self, py: Python<'_>, out: &Bound<'_, PyAny>, first: usize, count: usize) -> PyResult<usize> {
        let bytes = count.checked_mul(self.block_bytes).ok_or_else(|| PyValueError::new_err("too many blocks"))?;
        let mut out = Writable::of(out, bytes)?;
        Ok(py.detach(|| {
            let run = self.shared.run.lock();
            let blocks = run.blocks.iter().skip(first).zip(out.bytes().chunks_exact_mut(self.block_bytes));
            blocks
                .map_while(|(block, row)| {
                    (block.bytes().len() == row.len()).then(|| row.copy_from_slice(block.bytes()))
                })
                .count()
        }))
    }

    /// Lets go of the blocks, or of the wish for them.
    fn release(&self) {
        self.let_go();
    }
}

impl Lookup {
    /// Up to `count` blocks from number `first` on, to be held beside this.
    pub(crate) fn held(&self, first: usize, count: usize) -> Vec<Arc<LoadedBlock>> {
        self.shared.run.lock().blocks.iter().skip(first).take(count).cloned().collect()
    }

    fn let_go(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.shared.put(Vec::new());
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.shared.run.lock();
        f.debug_struct("Lookup").field("done", &run.done).field("blocks", &run.blocks.len()).finish_non_exhaustive()
    }
}
