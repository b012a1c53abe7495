//! Memory and events that another process opens. A handle names a descriptor of the process that made it.

use std::ffi::c_uint;

use super::device::current;
use super::{Code, INVALID_CONTEXT, INVALID_HANDLE, INVALID_VALUE, call, ending};
use crate::memory::Allocation;
use crate::shared_event::{self, SharedEvent};
use crate::state::Event;

/// As the driver has it: passed by value.
#[derive(Clone, Copy)]
#[repr(C)]
struct Handle([u8; 64]);

fn handle(kind: u8, descriptor: i32, bytes: usize) -> Handle {
    let mut handle = [0; 64];
    handle[0] = kind;
    handle[4..8].copy_from_slice(&std::process::id().to_le_bytes());
    handle[8..12].copy_from_slice(&descriptor.to_le_bytes());
    handle[16..24].copy_from_slice(&(bytes as u64).to_le_bytes());
    Handle(handle)
}

/// Bytes, and the file.
fn open(kind: u8, Handle(handle): &Handle) -> Result<(usize, rustix::fd::OwnedFd), Code> {
    let number = |at: usize| u32::from_le_bytes(handle[at..at + 4].try_into().unwrap());
    let bytes = u64::from_le_bytes(handle[16..24].try_into().unwrap());
    let (pid, descriptor) = (number(4), number(8));
    if handle[0] != kind {
        return Err(INVALID_HANDLE);
    }
    if pid == std::process::id() {
        // As the real one: who made it has it already.
        return Err(INVALID_CONTEXT);
    }
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let file =
        rustix::fs::open(path, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
    Ok((usize::try_from(bytes).unwrap(), file.map_err(|_| INVALID_HANDLE)?))
}

#[unsafe(no_mangle)]
extern "C" fn cuIpcGetMemHandle(out: &mut Handle, address: u64) -> Code {
    call("cuIpcGetMemHandle", |state| {
        let (_, allocation) = state.memory.around(address).ok_or(INVALID_VALUE)?;
        *out = handle(1, allocation.descriptor(), allocation.bytes);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuIpcOpenMemHandle_v2(address: &mut u64, handle: Handle, _flags: c_uint) -> Code {
    call("cuIpcOpenMemHandle_v2", |state| {
        current()?;
        let (bytes, file) = open(1, &handle)?;
        *address = state.memory.add(Allocation::of(file, bytes));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuIpcCloseMemHandle(address: u64) -> Code {
    ending("cuIpcCloseMemHandle", |state| {
        state.run_all();
        state.memory.remove(address).filter(|closed| closed.opened).map(drop).ok_or(INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuIpcGetEventHandle(out: &mut Handle, event: u64) -> Code {
    call("cuIpcGetEventHandle", |state| {
        let shared = state.events.get(&event).and_then(|event| event.shared.clone()).ok_or(INVALID_HANDLE)?;
        *out = handle(2, shared.descriptor(), 0);
        shared_event::serve(event, shared);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuIpcOpenEventHandle(event: &mut u64, handle: Handle) -> Code {
    call("cuIpcOpenEventHandle", |state| {
        current()?;
        let (_, file) = open(2, &handle)?;
        *event = state.add_event(Event { recorded: None, shared: Some(SharedEvent::of(file)) });
        Ok(())
    })
}
