//! Buffers of Python as slices, without the interpreter lock: the one place of this crate with raw pointers.
//!
//! A buffer stays where it is as long as its export is held, which [`Readable`] and [`Writable`] do. That nobody else writes
//! it meanwhile is up to the caller, as it is for every library that computes on NumPy arrays without the lock; a torch tensor
//! is given as `tensor.view(torch.uint8).numpy()`, which copies nothing.
#![expect(unsafe_code, reason = "a buffer's memory is known to Python, not to Rust; SAFETY comments say what holds it")]

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;

/// A buffer to read, in C order.
pub(crate) struct Readable(PyBuffer<u8>);

/// A buffer to write, in C order.
pub(crate) struct Writable(PyBuffer<u8>);

impl Readable {
    /// Of an object that holds exactly `bytes` bytes.
    pub(crate) fn of(object: &Bound<'_, PyAny>, bytes: usize) -> PyResult<Self> {
        Ok(Self(contiguous(object, bytes)?))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the export is held by `self`, so the memory stays; it is C-contiguous, so it is this long without a hole;
        // that nobody writes it meanwhile is the caller's promise (see the module).
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.len_bytes()) }
    }
}

impl Writable {
    /// Of an object that holds exactly `bytes` bytes and lets them be written.
    pub(crate) fn of(object: &Bound<'_, PyAny>, bytes: usize) -> PyResult<Self> {
        let buffer = contiguous(object, bytes)?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err("the buffer is read-only: blocks are to be copied into it"));
        }
        Ok(Self(buffer))
    }

    /// Its bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        if self.0.len_bytes() == 0 {
            return &mut [];
        }
        // SAFETY: as for `Readable::bytes`; it is writable, and that nobody else reads or writes it meanwhile is the caller's
        // promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), self.0.len_bytes()) }
    }
}

fn contiguous(object: &Bound<'_, PyAny>, bytes: usize) -> PyResult<PyBuffer<u8>> {
    let buffer = PyBuffer::<u8>::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is not contiguous in C order"));
    }
    if buffer.len_bytes() != bytes {
        let got = buffer.len_bytes();
        return Err(PyValueError::new_err(format!("the buffer has {got} bytes: expected {bytes}")));
    }
    Ok(buffer)
}
