//! Devices, the driver's version, contexts.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint};

use super::{Code, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NOT_INITIALIZED, SUCCESS, call, ending};
use crate::state::{DEVICES, State};

/// What the device is called: nobody should take it for one.
const NAME: &CStr = c"weft stand-in (host memory, no GPU)";

/// `CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED`.
const READ_ONLY_REGISTRATION: c_int = 113;

const MEMORY_BYTES: usize = 1 << 30;

thread_local! {
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The device whose context is current.
pub(super) fn current() -> Result<usize, Code> {
    CURRENT
        .with_borrow(|stack| stack.last().copied())
        .filter(|context| *context != 0)
        .map(|context| context - 1)
        .ok_or(INVALID_CONTEXT)
}

fn device(ordinal: c_int, state: &State) -> Result<usize, Code> {
    if !state.initialised {
        return Err(NOT_INITIALIZED);
    }
    usize::try_from(ordinal).ok().filter(|ordinal| *ordinal < DEVICES).ok_or(INVALID_DEVICE)
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> Code {
    call("cuInit", |state| {
        state.initialised = flags == 0;
        if state.initialised { Ok(()) } else { Err(INVALID_VALUE) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: &mut c_int) -> Code {
    call("cuDriverGetVersion", |state| {
        *version = state.version;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: &mut c_int) -> Code {
    call("cuDeviceGetCount", |state| {
        *count = state.devices;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(handle: &mut c_int, ordinal: c_int) -> Code {
    call("cuDeviceGet", |state| {
        device(ordinal, state)?;
        *handle = ordinal;
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, ordinal: c_int) -> Code {
    call("cuDeviceGetName", |state| {
        device(ordinal, state)?;
        let bytes = NAME.to_bytes_with_nul();
        if usize::try_from(len).unwrap() < bytes.len() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller's buffer has `len` bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), name, bytes.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: &mut usize, ordinal: c_int) -> Code {
    call("cuDeviceTotalMem_v2", |state| {
        device(ordinal, state)?;
        *bytes = MEMORY_BYTES;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: &mut c_int, attribute: c_int, ordinal: c_int) -> Code {
    call("cuDeviceGetAttribute", |state| {
        device(ordinal, state)?;
        *value = c_int::from(attribute == READ_ONLY_REGISTRATION && state.read_only_registration);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: &mut [u8; 16], ordinal: c_int) -> Code {
    call("cuDeviceGetUuid_v2", |state| {
        *uuid = [0xcd; 16];
        uuid[15] = u8::try_from(device(ordinal, state)?).unwrap();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: &mut usize, ordinal: c_int) -> Code {
    call("cuDevicePrimaryCtxRetain", |state| {
        let device = device(ordinal, state)?;
        state.contexts[device] += 1;
        *context = device + 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(ordinal: c_int) -> Code {
    ending("cuDevicePrimaryCtxRelease_v2", |state| {
        let device = device(ordinal, state)?;
        state.contexts[device] = state.contexts[device].checked_sub(1).ok_or(INVALID_CONTEXT)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: usize) -> Code {
    call("cuCtxPushCurrent_v2", |state| {
        let live = context.checked_sub(1).and_then(|device| state.contexts.get(device)).is_some_and(|count| *count > 0);
        if !live {
            return Err(INVALID_CONTEXT);
        }
        CURRENT.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent_v2(context: &mut usize) -> Code {
    ending("cuCtxPopCurrent_v2", |_| {
        *context = CURRENT.with_borrow_mut(Vec::pop).ok_or(INVALID_CONTEXT)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: Code, name: &mut *const c_char) -> Code {
    let known = match code {
        SUCCESS => c"CUDA_SUCCESS",
        INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        _ => c"CUDA_ERROR_OF_THE_STAND_IN",
    };
    *name = known.as_ptr();
    SUCCESS
}
