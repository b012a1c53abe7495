//! Block hashes as Python has them: `bytes` of 32.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use weft_types::BlockHash;

/// From a sequence of `bytes`.
pub(crate) fn from_python(hashes: &Bound<'_, PyAny>) -> PyResult<Vec<BlockHash>> {
    hashes.try_iter()?.map(|hash| one(hash?.cast::<PyBytes>()?.as_bytes())).collect()
}

/// From the bytes of one.
pub(crate) fn one(bytes: &[u8]) -> PyResult<BlockHash> {
    let bytes: [u8; BlockHash::LEN] = bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("a block hash of {} bytes: expected {}", bytes.len(), BlockHash::LEN))
    })?;
    Ok(BlockHash::from_bytes(bytes))
}

/// As `bytes`.
pub(crate) fn to_python<'py>(py: Python<'py>, hashes: &[BlockHash]) -> Vec<Bound<'py, PyBytes>> {
    hashes.iter().map(|hash| PyBytes::new(py, hash.as_bytes())).collect()
}
