//! The driver's interface, by subject. Each call first asks whether it is to fail.

mod copy;
mod device;
mod ipc;
mod memory;
mod stream;

use crate::state::State;

/// Results of calls that are told apart here (`CUresult`).
pub(crate) type Code = i32;
pub(crate) const SUCCESS: Code = 0;
pub(crate) const INVALID_VALUE: Code = 1;
pub(crate) const NOT_INITIALIZED: Code = 3;
pub(crate) const INVALID_DEVICE: Code = 101;
pub(crate) const INVALID_CONTEXT: Code = 201;
pub(crate) const INVALID_HANDLE: Code = 400;
pub(crate) const NOT_READY: Code = 600;
pub(crate) const ALREADY_REGISTERED: Code = 712;
pub(crate) const NOT_REGISTERED: Code = 713;

/// A call that begins something: it fails before it has done anything.
fn call(name: &'static str, act: impl FnOnce(&mut State) -> Result<(), Code>) -> Code {
    let mut state = State::lock();
    if let Some(code) = state.faults.strikes(name) {
        return code;
    }
    act(&mut state).err().unwrap_or(SUCCESS)
}

/// A call that ends something: it does so even when it fails, as the driver's report errors of earlier work.
fn ending(name: &'static str, act: impl FnOnce(&mut State) -> Result<(), Code>) -> Code {
    let mut state = State::lock();
    let told = state.faults.strikes(name);
    let done = act(&mut state).err();
    told.or(done).unwrap_or(SUCCESS)
}
