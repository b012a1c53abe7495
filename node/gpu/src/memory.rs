//! Memory of a device that is ours: of benches and tests, which play the engine.

use crate::device::Gpu;
use crate::driver;
use crate::error::Refused;
use crate::stream::Stream;

/// An allocation.
#[derive(Debug)]
pub struct DeviceBuffer {
    gpu: Gpu,
    address: u64,
    bytes: usize,
}

impl DeviceBuffer {
    /// So many bytes, of any content.
    ///
    /// # Errors
    /// The device has not as many.
    pub fn new(gpu: &Gpu, bytes: usize) -> Result<Self, Refused> {
        let address = gpu.within(|| driver::alloc(bytes))?;
        Ok(Self { gpu: gpu.clone(), address, bytes })
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies to it, by the driver's plain call, and waits.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        let to = self.at(offset, bytes.len());
        self.gpu.within(|| driver::write(to, bytes))
    }

    /// Copies from it, by the driver's plain call, and waits.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Panics
    /// When it has not as many.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Refused> {
        let from = self.at(offset, bytes.len());
        self.gpu.within(|| driver::read(bytes, from))
    }

    /// Has a stream set bytes.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Panics
    /// When it has not as many.
    pub fn fill(&self, offset: usize, bytes: usize, value: u8, stream: &Stream) -> Result<(), Refused> {
        let to = self.at(offset, bytes);
        self.gpu.within(|| driver::fill(to, value, bytes, stream.handle()))
    }

    /// Has a stream copy bytes of another allocation here: what an engine's kernel does that reads its cache.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Panics
    /// When either has not as many.
    pub fn take(&self, offset: usize, from: &Self, at: usize, bytes: usize, stream: &Stream) -> Result<(), Refused> {
        let (to, from) = (self.at(offset, bytes), from.at(at, bytes));
        self.gpu.within(|| driver::copy_on_device(to, from, bytes, stream.handle()))
    }

    fn at(&self, offset: usize, bytes: usize) -> u64 {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes), "a range of the allocation");
        self.address + offset as u64
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        self.gpu.ending("device memory", || driver::free(self.address));
    }
}
