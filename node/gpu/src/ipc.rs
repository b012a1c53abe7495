//! A cache that another process opens: the engine's, for a node that copies by itself.
//!
//! The engine says where its pages lie, in allocations that the driver has handles for, and gives an event: it records the event
//! on its stream before each request, and whoever copies waits for it. What was opened is closed with the last [`Cache`] of it.

use weft_attach::SharedCache;

use crate::cache::{Cache, CacheError};
use crate::device::Gpu;
use crate::driver;
use crate::error::{GpuError, Refused};
use crate::event::{EngineEvent, Event};
use crate::found::Uuid;
use crate::pieces::Shape;
use crate::stream::EngineStream;

/// Allocations of one cache: one a layer at most, in practice one a few.
const ALLOCATIONS_MAX: usize = 4096;

/// Memory of another process, mapped here.
#[derive(Debug)]
pub(crate) struct Mapped {
    gpu: Gpu,
    address: u64,
}

/// An event that the other process waits for.
#[derive(Debug)]
pub struct Ready {
    event: Event,
}

/// The other process's event.
#[derive(Debug)]
pub struct PeerReady {
    event: Event,
}

impl Ready {
    /// A new one.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(gpu: &Gpu) -> Result<Self, Refused> {
        Ok(Self { event: Event::of(gpu, || driver::event_create(true))? })
    }

    /// From now on: what the engine's stream has been given so far.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn record_on(&self, stream: EngineStream) -> Result<(), Refused> {
        self.event.record_on(stream)
    }
}

impl PeerReady {
    /// For a copier of this process to wait for.
    #[must_use]
    pub fn as_engine(&self) -> EngineEvent {
        self.event.as_engine()
    }
}

/// What another process needs to open a cache.
///
/// # Errors
/// The driver refuses: memory of an allocator that maps piece by piece has no handles.
pub fn export(cache: &Cache, ready: &Ready) -> Result<SharedCache, GpuError> {
    let (gpu, shape) = (cache.gpu(), cache.shape());
    let (mut bases, mut allocations, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for address in &shape.layers {
        let (base, _) = gpu.within(|| driver::allocation_of(*address))?;
        let known = bases.iter().position(|known| *known == base);
        let number = match known {
            Some(number) => number,
            None => {
                allocations.push(gpu.within(|| driver::memory_handle(base))?.to_vec());
                bases.push(base);
                bases.len() - 1
            }
        };
        layers.push((u32::try_from(number).expect("few allocations"), address - base));
    }
    Ok(SharedCache {
        device: gpu.found().uuid.0,
        ready: gpu.within(|| driver::event_handle(ready.event.handle()))?.to_vec(),
        allocations,
        layers,
        page_stride: shape.page_stride,
        page_bytes: shape.page_bytes as u64,
        block_pages: u32::try_from(shape.ratio).unwrap_or(u32::MAX),
        pages: shape.pages,
    })
}

/// Opens what another process exported.
///
/// # Errors
/// It is no cache, its device is not to be seen from here, or the driver refuses.
pub fn open(shared: &SharedCache) -> Result<(Cache, PeerReady), GpuError> {
    let handle = |bytes: &Vec<u8>| {
        <[u8; 64]>::try_from(bytes.as_slice()).map_err(|_| CacheError::Export("a handle is not 64 bytes"))
    };
    if shared.allocations.len() > ALLOCATIONS_MAX {
        return Err(CacheError::Export("too many allocations").into());
    }
    let gpu = Gpu::with_uuid(Uuid(shared.device))?;
    let ready = handle(&shared.ready)?;
    let event = Event::of(&gpu, || driver::event_open(ready))?;
    let mut mapped = Vec::new();
    for allocation in &shared.allocations {
        let handle = handle(allocation)?;
        let address = gpu.within(|| driver::memory_open(handle))?;
        mapped.push(Mapped { gpu: gpu.clone(), address });
    }
    let address = |(number, offset): &(u32, u64)| {
        let base = mapped.get(*number as usize).ok_or(CacheError::Export("a layer in no allocation"))?.address;
        base.checked_add(*offset).ok_or(CacheError::Export("an offset beyond any memory"))
    };
    let layers = shared.layers.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    let page_bytes = usize::try_from(shared.page_bytes).map_err(|_| CacheError::Export("pages beyond any memory"))?;
    let shape = Shape {
        layers,
        page_stride: shared.page_stride,
        page_bytes,
        ratio: shared.block_pages as usize,
        pages: shared.pages,
    };
    Ok((Cache::checked(&gpu, shape, mapped)?, PeerReady { event }))
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.gpu.ending("opened memory", || driver::memory_close(self.address));
    }
}
