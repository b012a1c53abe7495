//! An engine of a few layers and pages on the stand-in, and the arena of a node that it is attached to.

use std::sync::Arc;

use weft_attach::{Geometry, Region, SlotIndex, SlotReader};
use weft_gpu::{Cache, Copier, DeviceBuffer, EngineStream, Event, Gpu, GpuError, Layer, Refused, Row, Stream};

pub(crate) const LAYERS: usize = 3;
pub(crate) const PAGES: u32 = 16;
pub(crate) const PAGE_BYTES: usize = 1000;
/// Pages lie further apart than they are long.
pub(crate) const STRIDE: usize = 1024;
pub(crate) const RATIO: usize = 2;
pub(crate) const ROW_BYTES: usize = LAYERS * RATIO * PAGE_BYTES;

/// An engine: its cache, its stream, and what its kernels would write.
pub(crate) struct Engine {
    pub(crate) gpu: Gpu,
    pub(crate) layers: Vec<DeviceBuffer>,
    pub(crate) stream: Stream,
    pub(crate) output: DeviceBuffer,
}

impl Engine {
    pub(crate) fn new() -> Result<Self, GpuError> {
        let gpu = Gpu::open(0)?;
        let layer = |_| DeviceBuffer::new(&gpu, PAGES as usize * STRIDE);
        let layers = (0..LAYERS).map(layer).collect::<Result<_, _>>()?;
        let (stream, output) = (Stream::new(&gpu)?, DeviceBuffer::new(&gpu, PAGE_BYTES)?);
        Ok(Self { gpu, layers, stream, output })
    }

    pub(crate) fn cache(&self) -> Result<Cache, GpuError> {
        let layers: Vec<_> = self.layers.iter().map(|layer| Layer { address: layer.address() }).collect();
        Cache::new(&self.gpu, &layers, (PAGES, PAGE_BYTES, STRIDE as u64), RATIO)
    }

    pub(crate) fn copier(&self) -> Result<Copier, GpuError> {
        Copier::new(self.cache()?)
    }

    pub(crate) fn stream(&self) -> EngineStream {
        self.stream.as_engine()
    }

    /// What is in a page now, whatever waits to happen.
    pub(crate) fn page(&self, layer: usize, page: u32) -> Result<Vec<u8>, Refused> {
        let mut bytes = vec![0; PAGE_BYTES];
        self.layers[layer].read(page as usize * STRIDE, &mut bytes)?;
        Ok(bytes)
    }

    /// A kernel that writes a page, when the stream comes to it.
    pub(crate) fn compute(&self, layer: usize, page: u32, value: u8) -> Result<(), Refused> {
        self.layers[layer].fill(page as usize * STRIDE, PAGE_BYTES, value, &self.stream)
    }

    /// A kernel that reads a page, when the stream comes to it; what it has read.
    pub(crate) fn attend(&self, layer: usize, page: u32) -> Result<Vec<u8>, Refused> {
        self.output.take(0, &self.layers[layer], page as usize * STRIDE, PAGE_BYTES, &self.stream)?;
        self.stream.synchronize()?;
        let mut bytes = vec![0; PAGE_BYTES];
        self.output.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// An event behind all that the engine has asked for.
    pub(crate) fn ready(&self) -> Result<Event, Refused> {
        let event = Event::new(&self.gpu)?;
        event.record_on(self.stream())?;
        Ok(event)
    }
}

/// What a block's page holds, layer by layer.
pub(crate) fn value(block: usize, layer: usize, at: usize) -> u8 {
    u8::try_from(block * 50 + layer * 10 + at + 1).unwrap()
}

/// A row as a block's bytes.
pub(crate) fn block(number: usize) -> Vec<u8> {
    let page = |at: usize| vec![value(number, at / RATIO, at % RATIO); PAGE_BYTES];
    (0..LAYERS * RATIO).flat_map(page).collect()
}

pub(crate) fn row(pages: [u32; RATIO]) -> Row {
    Row { skip: 0, pages: pages.to_vec() }
}

/// A region as its node has it, and as an engine maps it.
pub(crate) fn arena() -> (Arc<Region>, Arc<Region>) {
    let node = Region::create("test", Geometry::fit(ROW_BYTES as u64, 4 << 20).unwrap()).unwrap();
    let writable = node.writable().unwrap().try_clone_to_owned().unwrap();
    let engine = Region::open(node.geometry(), &writable, &node.readable().unwrap()).unwrap();
    (node, engine)
}

/// Blocks in the first slots of an arena, pinned to be read.
pub(crate) fn stored(node: &Arc<Region>, engine: &Arc<Region>, blocks: usize) -> Vec<SlotReader> {
    let slot = |number: usize| SlotIndex(u32::try_from(number).unwrap());
    for number in 0..blocks {
        node.write(slot(number)).unwrap().write_at(0, &block(number)).unwrap();
    }
    (0..blocks).map(|number| engine.read(slot(number)).unwrap()).collect()
}
