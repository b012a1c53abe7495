//! Streams and events.

use std::ffi::{c_int, c_uint};

use super::device::current;
use super::{Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY, call, ending};
use crate::state::{Event, Op, Point};

/// `CU_EVENT_INTERPROCESS`, and `CU_EVENT_DISABLE_TIMING`, which it needs.
const INTERPROCESS: c_uint = 4;
const NO_TIMING: c_uint = 2;

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(stream: &mut u64, flags: c_uint, _priority: c_int) -> Code {
    call("cuStreamCreateWithPriority", |state| {
        current()?;
        // Others would wait for the default stream and be waited for, which is not modelled.
        if flags != 1 {
            return Err(INVALID_VALUE);
        }
        *stream = state.add_stream();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: u64) -> Code {
    ending("cuStreamDestroy_v2", |state| {
        let end = state.end_of(stream)?;
        state.run(end)?;
        state.streams.remove(&stream);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: u64) -> Code {
    call_or_lose("cuStreamSynchronize", |state| {
        let end = state.end_of(stream)?;
        state.run(end)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, _flags: c_uint) -> Code {
    call("cuStreamWaitEvent", |state| {
        let wait = match state.events.get(&event).ok_or(INVALID_HANDLE)? {
            Event { recorded: Some(point), .. } => Some(Op::Wait(*point)),
            // Of another process.
            Event { shared: Some(shared), .. } => Some(Op::WaitShared(shared.clone(), shared.recorded())),
            Event { .. } => None,
        };
        wait.map_or(Ok(()), |wait| state.push(stream, wait).map(drop))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: &mut u64, flags: c_uint) -> Code {
    call("cuEventCreate", |state| {
        current()?;
        let interprocess = flags & INTERPROCESS != 0;
        if interprocess && flags & NO_TIMING == 0 {
            return Err(INVALID_VALUE);
        }
        *event = state.add_event(Event::new(interprocess));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: u64) -> Code {
    ending("cuEventDestroy_v2", |state| state.events.remove(&event).map(drop).ok_or(INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: u64, stream: u64) -> Code {
    call("cuEventRecord", |state| {
        let shared = state.events.get(&event).ok_or(INVALID_HANDLE)?.shared.clone();
        let op = shared.map_or(Op::Nothing, |shared| {
            let number = shared.record();
            Op::Signal(shared, number)
        });
        let point = state.push(stream, op)?;
        state.events.get_mut(&event).unwrap().recorded = Some(point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: u64) -> Code {
    call("cuEventQuery", |state| {
        let Some(point) = state.events.get(&event).ok_or(INVALID_HANDLE)?.recorded else { return Ok(()) };
        if state.is_done(point) {
            return Ok(());
        }
        // Who polls gets on, by a step a question.
        let next = Point { number: state.done_of(point.stream) + 1, ..point };
        state.run(next)?;
        Err(NOT_READY)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: u64) -> Code {
    call_or_lose("cuEventSynchronize", |state| {
        let recorded = state.events.get(&event).ok_or(INVALID_HANDLE)?.recorded;
        recorded.map_or(Ok(()), |point| state.run(point))
    })
}

/// A call that reports how earlier work ended: when it fails the context is lost, and nothing of what was pending runs.
fn call_or_lose(name: &'static str, act: impl FnOnce(&mut crate::state::State) -> Result<(), Code>) -> Code {
    let mut state = crate::state::State::lock();
    if let Some(code) = state.faults.strikes(name) {
        state.lose_pending();
        return code;
    }
    act(&mut state).err().unwrap_or(super::SUCCESS)
}
