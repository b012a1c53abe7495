//! Streams: ours, and the engine's.

use crate::device::{Gpu, ended};
use crate::driver::{self, CUstream};
use crate::error::Refused;
use crate::event::{EngineEvent, Event};

/// A stream of ours. Dropped, it ends when all it was given is done.
#[derive(Debug)]
pub struct Stream {
    gpu: Gpu,
    handle: CUstream,
}

/// A stream of somebody else in this process, such as the one an engine computes on.
#[derive(Clone, Copy, Debug)]
pub struct EngineStream {
    handle: CUstream,
}

// SAFETY: the driver takes stream handles from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for EngineStream {}
// SAFETY: as above.
unsafe impl Sync for EngineStream {}

impl Stream {
    /// A new one, which waits for no other by itself.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(gpu: &Gpu) -> Result<Self, Refused> {
        let handle = gpu.within(driver::stream_create)?;
        Ok(Self { gpu: gpu.clone(), handle })
    }

    /// Where it is.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// As an engine would give it to us.
    #[must_use]
    pub fn as_engine(&self) -> EngineStream {
        EngineStream { handle: self.handle }
    }

    /// Has what comes next wait for what an event is behind.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn wait_for(&self, event: &Event) -> Result<(), Refused> {
        self.as_engine().wait_for(event)
    }

    /// Has what comes next wait for what an engine's event is behind.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn wait_for_engine(&self, event: EngineEvent) -> Result<(), Refused> {
        event.hold(self)
    }

    /// Waits until all is done. After an error nothing of it runs any more: the context is lost.
    ///
    /// # Errors
    /// Something failed, now or before.
    pub fn synchronize(&self) -> Result<(), Refused> {
        driver::stream_synchronize(self.handle)
    }

    pub(crate) fn handle(&self) -> CUstream {
        self.handle
    }
}

impl EngineStream {
    /// By the number that an engine has for it: PyTorch's `stream.cuda_stream`. 0 is the default stream.
    ///
    /// # Safety
    /// It is a stream of a context of this process, and lives as long as it is used.
    #[must_use]
    pub unsafe fn from_raw(handle: usize) -> Self {
        Self { handle: std::ptr::with_exposed_provenance_mut(handle) }
    }

    /// Has what comes next on it wait for what an event is behind.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn wait_for(&self, event: &Event) -> Result<(), Refused> {
        event.gpu().within(|| driver::stream_wait(self.handle, event.handle()))
    }

    pub(crate) fn handle(self) -> CUstream {
        self.handle
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        ended("stream", driver::stream_destroy(self.handle));
    }
}
