//! Weft block hash v1 for Python: the same function as the router's and the node's, so that they agree by construction.

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use weft_types::{BlockHash, ModelKey};

use crate::contract::Contract;
use crate::hashes;

/// Hashes blocks of tokens under one model key: a contract's, with an adapter and a cache salt.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct BlockHasher {
    inner: weft_types::BlockHasher,
}

#[pymethods]
impl BlockHasher {
    #[new]
    #[pyo3(signature = (contract, *, adapter="", salt=""))]
    fn new(contract: &Contract, adapter: &str, salt: &str) -> Self {
        let key = ModelKey { adapter: adapter.into(), salt: salt.into(), ..contract.inner.model_key.clone() };
        Self { inner: weft_types::BlockHasher::new(&key) }
    }

    /// Hashes of the full blocks of `tokens`, which follow the block `parent` (`None`: the prompt begins here). What is left
    /// over at the end has none. `extra` names what else the KV of a block depends on: number of the block in `tokens` → keys
    /// in order of position.
    #[pyo3(signature = (tokens, *, parent=None, extra=None))]
    fn hash<'py>(
        &self,
        py: Python<'py>,
        tokens: Vec<u32>,
        parent: Option<&[u8]>,
        extra: Option<HashMap<usize, Vec<Vec<u8>>>>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let mut parent = parent.map_or(Ok(BlockHash::ROOT), hashes::one)?;
        let extra = extra.unwrap_or_default();
        let size = self.inner.block_size().tokens();
        if let Some(number) = extra.keys().find(|number| **number > tokens.len() / size) {
            return Err(PyValueError::new_err(format!("extra keys of block {number}: there are no such tokens")));
        }
        let blocks = py.detach(|| {
            let chunks = tokens.chunks_exact(size).enumerate();
            let hash = |(number, block): (usize, &[u32])| {
                let extra: &[Vec<u8>] = extra.get(&number).map_or(&[], Vec::as_slice);
                parent = self.inner.block(&parent, block, extra);
                parent
            };
            chunks.map(hash).collect::<Vec<_>>()
        });
        Ok(hashes::to_python(py, &blocks))
    }
}
