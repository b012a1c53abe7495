//! A device in use: its primary context, which is the engine's too, retained for as long as anything of ours is there.

use std::sync::Arc;

use crate::driver::{self, CUcontext};
use crate::error::{GpuError, Refused};
use crate::found::{Absent, DeviceFound, Uuid, look};

/// A device. Clone is cheap.
#[derive(Clone, Debug)]
pub struct Gpu {
    context: Arc<Context>,
}

#[derive(Debug)]
struct Context {
    device: i32,
    handle: CUcontext,
    found: DeviceFound,
    batches: bool,
}

// SAFETY: a context handle may be used from any thread; which one is current is pushed and popped around every use.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Gpu {
    /// By its number in this process.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn open(ordinal: u32) -> Result<Self, GpuError> {
        Self::find(|device| device.ordinal == ordinal, || ordinal.to_string())
    }

    /// By the name that it has in every process.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn with_uuid(uuid: Uuid) -> Result<Self, GpuError> {
        Self::find(|device| device.uuid == uuid, || uuid.to_string())
    }

    fn find(wanted: impl Fn(&DeviceFound) -> bool, named: impl Fn() -> String) -> Result<Self, GpuError> {
        let found = look()?;
        let batches = found.batches;
        let device = found.devices.into_iter().find(wanted).ok_or_else(|| Absent::Wanted(named()))?;
        let handle = driver::device(i32::try_from(device.ordinal).expect("few devices"))?;
        let context = Context { device: handle, handle: driver::retain(handle)?, found: device, batches };
        Ok(Self { context: Arc::new(context) })
    }

    /// What it is.
    #[must_use]
    pub fn found(&self) -> &DeviceFound {
        &self.context.found
    }

    /// Whether many copies go in one call.
    #[must_use]
    pub fn batches(&self) -> bool {
        self.context.batches
    }

    /// Does something in the device's context, and leaves the thread's own as it was.
    pub(crate) fn within<T>(&self, act: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
        driver::push(self.context.handle)?;
        Self::pop_after(act())
    }

    /// Ends something in the device's context. What would not be ended is lost to the process: a refusal to enter is tried again.
    pub(crate) fn ending(&self, what: &'static str, act: impl FnOnce() -> Result<(), Refused>) {
        let entered = driver::push(self.context.handle).or_else(|_| driver::push(self.context.handle));
        ended(what, entered.and_then(|()| Self::pop_after(act())));
    }

    fn pop_after<T>(done: Result<T, Refused>) -> Result<T, Refused> {
        // It was pushed a moment ago: what it answers is of earlier work, which whoever waits for that work hears too.
        if let Err(error) = driver::pop() {
            tracing::debug!(%error, "the context was not given back in silence");
        }
        done
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Err(error) = driver::release(self.device) {
            tracing::debug!(%error, "the device's context ends with an error");
        }
    }
}

/// Says that something ended with an error: nobody can do anything about it any more.
pub(crate) fn ended(what: &'static str, outcome: Result<(), Refused>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, what, "ended with an error");
    }
}
