//! Memory of the device, and memory of the host that is registered.

use std::ffi::{c_int, c_uint, c_void};

use super::device::current;
use super::{ALREADY_REGISTERED, Code, INVALID_VALUE, NOT_REGISTERED, call, ending};
use crate::memory::{Allocation, READ_ONLY, Registration, is_writable};

/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, and its value for a device.
const MEMORY_TYPE: c_int = 2;
const DEVICE: c_uint = 2;

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: &mut u64, bytes: usize) -> Code {
    call("cuMemAlloc_v2", |state| {
        current()?;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        *address = state.memory.add(Allocation::new(bytes));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Code {
    ending("cuMemFree_v2", |state| {
        // The driver waits for the device.
        state.run_all();
        state.memory.remove(address).filter(|freed| !freed.opened).map(drop).ok_or(INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetAddressRange_v2(base: Option<&mut u64>, bytes: Option<&mut usize>, address: u64) -> Code {
    call("cuMemGetAddressRange_v2", |state| {
        let (start, allocation) = state.memory.around(address).ok_or(INVALID_VALUE)?;
        if let Some(base) = base {
            *base = start;
        }
        if let Some(bytes) = bytes {
            *bytes = allocation.bytes;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuPointerGetAttribute(value: *mut c_void, attribute: c_int, address: u64) -> Code {
    call("cuPointerGetAttribute", |state| {
        if attribute != MEMORY_TYPE || state.memory.around(address).is_none() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: this attribute is an unsigned int, for which the caller has room.
        unsafe { value.cast::<c_uint>().write(DEVICE) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostRegister_v2(base: usize, bytes: usize, flags: c_uint) -> Code {
    call("cuMemHostRegister_v2", |state| {
        current()?;
        let read_only = flags & READ_ONLY != 0;
        if bytes == 0 || (read_only && !state.read_only_registration) || (!read_only && !is_writable(base, bytes)) {
            return Err(INVALID_VALUE);
        }
        if state.memory.registrations.iter().any(|other| other.overlaps(base, bytes)) {
            return Err(ALREADY_REGISTERED);
        }
        state.memory.registrations.push(Registration { base, bytes, read_only });
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostUnregister(base: usize) -> Code {
    ending("cuMemHostUnregister", |state| {
        let registrations = &mut state.memory.registrations;
        let at = registrations.iter().position(|one| one.base == base).ok_or(NOT_REGISTERED)?;
        let gone = registrations.remove(at);
        if state.pending_touches(&gone) {
            state.misuses += 1;
        }
        Ok(())
    })
}
