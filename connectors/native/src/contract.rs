//! What an engine brings to its node, as Python states it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use weft_types::{BlockSize, ModelKey, Part};

/// What all engines must agree on that share KV bytes: model, weights, layout, block size. One part, one rank.
#[pyclass(frozen, module = "weft_kv._native")]
#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) inner: weft_types::Contract,
    pub(crate) block_bytes: usize,
}

#[pymethods]
impl Contract {
    #[new]
    #[pyo3(signature = (*, model, revision, layout, block_tokens, block_bytes, aliases=vec![], tokenizer=String::new(), chat_template=String::new()))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python, each by its name")]
    fn new(
        model: String,
        revision: String,
        layout: String,
        block_tokens: u32,
        block_bytes: usize,
        aliases: Vec<String>,
        tokenizer: String,
        chat_template: String,
    ) -> PyResult<Self> {
        let block_tokens = BlockSize::new(block_tokens)
            .ok_or_else(|| PyValueError::new_err("block_tokens is 0: expected the tokens of a block"))?;
        if block_bytes == 0 {
            return Err(PyValueError::new_err("block_bytes is 0: expected the bytes of a block"));
        }
        let model_key = ModelKey { model, revision, adapter: String::new(), salt: String::new(), layout, block_tokens };
        let parts = vec![Part { bytes: block_bytes as u64, ranks: vec![0] }];
        let inner = weft_types::Contract { model_key, parts, aliases, tokenizer, chat_template };
        Ok(Self { inner, block_bytes })
    }

    /// Bytes of a block.
    #[getter]
    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Tokens of a block.
    #[getter]
    fn block_tokens(&self) -> u32 {
        self.inner.model_key.block_tokens.get()
    }

    /// Its short name in logs.
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }

    fn __repr__(&self) -> String {
        let key = &self.inner.model_key;
        format!(
            "Contract(model={:?}, revision={:?}, layout={:?}, block_tokens={}, block_bytes={})",
            key.model, key.revision, key.layout, key.block_tokens, self.block_bytes
        )
    }
}
