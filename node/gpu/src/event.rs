//! Events: points in streams that others wait for.

use crate::device::{Gpu, ended};
use crate::driver::{self, CUevent};
use crate::error::Refused;
use crate::stream::{EngineStream, Stream};

/// An event of ours.
#[derive(Debug)]
pub struct Event {
    gpu: Gpu,
    handle: CUevent,
}

/// An event of somebody else in this process.
#[derive(Clone, Copy, Debug)]
pub struct EngineEvent {
    handle: CUevent,
}

// SAFETY: the driver takes event handles from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}
// SAFETY: as above.
unsafe impl Send for EngineEvent {}
// SAFETY: as above.
unsafe impl Sync for EngineEvent {}

impl Event {
    /// A new one.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(gpu: &Gpu) -> Result<Self, Refused> {
        Self::of(gpu, || driver::event_create(false))
    }

    pub(crate) fn of(gpu: &Gpu, make: impl FnOnce() -> Result<CUevent, Refused>) -> Result<Self, Refused> {
        Ok(Self { gpu: gpu.clone(), handle: gpu.within(make)? })
    }

    /// Where it is.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Puts it behind all that a stream of ours has been given.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn record(&self, stream: &Stream) -> Result<(), Refused> {
        self.record_on(stream.as_engine())
    }

    /// Puts it behind all that an engine's stream has been given.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn record_on(&self, stream: EngineStream) -> Result<(), Refused> {
        self.gpu.within(|| driver::event_record(self.handle, stream.handle()))
    }

    /// Whether that is done.
    ///
    /// # Errors
    /// Something of it failed.
    pub fn is_done(&self) -> Result<bool, Refused> {
        driver::event_query(self.handle)
    }

    /// Waits until it is.
    ///
    /// # Errors
    /// Something of it failed; nothing of it runs any more.
    pub fn synchronize(&self) -> Result<(), Refused> {
        driver::event_synchronize(self.handle)
    }

    /// For streams of ours to wait for, as an engine would give it to us.
    #[must_use]
    pub fn as_engine(&self) -> EngineEvent {
        EngineEvent { handle: self.handle }
    }

    pub(crate) fn handle(&self) -> CUevent {
        self.handle
    }
}

impl EngineEvent {
    /// By the number that an engine has for it: PyTorch's `event.cuda_event`.
    ///
    /// # Safety
    /// It is an event of a context of this process, and lives as long as it is used.
    #[must_use]
    pub unsafe fn from_raw(handle: usize) -> Self {
        Self { handle: std::ptr::with_exposed_provenance_mut(handle) }
    }

    /// Has a stream of ours wait for it.
    pub(crate) fn hold(self, stream: &Stream) -> Result<(), Refused> {
        stream.gpu().within(|| driver::stream_wait(stream.handle(), self.handle))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        ended("event", driver::event_destroy(self.handle));
    }
}
