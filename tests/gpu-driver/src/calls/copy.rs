//! Copies and fills.

use std::ffi::{c_uchar, c_void};

use super::{Code, INVALID_VALUE, call};
use crate::memory::Place;
use crate::state::{DEFAULT_STREAM, Op, State};

/// Puts a copy on a stream, or does it, as the kind of host memory asks for.
fn copy(state: &mut State, to: u64, from: u64, bytes: usize, stream: u64) -> Result<(), Code> {
    let (to, from) = (state.memory.place(to, bytes)?, state.memory.place(from, bytes)?);
    match (to, from) {
        (Place::Host { registered: Some(range), .. }, _) if range.read_only => Err(INVALID_VALUE),
        // Pageable memory: copied out of at the call, and into before the call returns.
        (_, Place::Host { registered: None, .. }) => {
            let staged = from.read(bytes);
            state.push(stream, Op::Put { to, staged }).map(drop)
        }
        (Place::Host { registered: None, .. }, _) => {
            let point = state.push(stream, Op::Copy { to, from, bytes })?;
            state.run(point)
        }
        _ => state.push(stream, Op::Copy { to, from, bytes }).map(drop),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: u64) -> Code {
    call("cuMemcpyHtoDAsync_v2", |state| copy(state, to, from as u64, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: u64) -> Code {
    call("cuMemcpyDtoHAsync_v2", |state| copy(state, to as u64, from, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> Code {
    call("cuMemcpyDtoDAsync_v2", |state| copy(state, to, from, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> Code {
    call("cuMemcpyHtoD_v2", |state| now(state, to, from as u64, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> Code {
    call("cuMemcpyDtoH_v2", |state| now(state, to as u64, from, bytes))
}

/// In order with the default stream only: others of ours do not wait for it.
fn now(state: &mut State, to: u64, from: u64, bytes: usize) -> Result<(), Code> {
    let (to, from) = (state.memory.place(to, bytes)?, state.memory.place(from, bytes)?);
    let point = state.push(DEFAULT_STREAM, Op::Copy { to, from, bytes })?;
    state.run(point)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyBatchAsync(
    to: *const u64,
    from: *const u64,
    bytes: *const usize,
    count: usize,
    _attributes: *const c_void,
    _attribute_starts: *const usize,
    attribute_count: usize,
    failed: &mut usize,
    stream: u64,
) -> Code {
    call("cuMemcpyBatchAsync", |state| {
        *failed = usize::MAX;
        if count == 0 || attribute_count != 1 || stream == DEFAULT_STREAM {
            return Err(INVALID_VALUE);
        }
        state.batches += 1;
        // They have no order among each other, so the last comes first.
        for at in (0..count).rev() {
            // SAFETY: the caller's arrays have `count` elements each.
            let (to, from, bytes) = unsafe { (*to.add(at), *from.add(at), *bytes.add(at)) };
            copy(state, to, from, bytes, stream).inspect_err(|_| *failed = at)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: c_uchar, bytes: usize, stream: u64) -> Code {
    call("cuMemsetD8Async", |state| {
        let to = state.memory.place(to, bytes)?;
        state.push(stream, Op::Put { to, staged: vec![value; bytes] }).map(drop)
    })
}
