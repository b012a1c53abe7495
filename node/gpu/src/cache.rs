//! An engine's paged KV cache: where its pages lie, checked against what the driver knows of that memory.

use std::sync::Arc;

use crate::device::Gpu;
use crate::driver;
use crate::error::GpuError;
use crate::ipc::Mapped;
use crate::pieces::Shape;

/// Layers of a model, at most: several times those of any.
const LAYERS_MAX: usize = 4096;

/// Pieces of device memory, mapped side by side, that one layer may lie in: an allocator that grows maps 2 MiB to 20 MiB a time.
const ALLOCATIONS_MAX: usize = 1 << 16;

/// Where one layer lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layer {
    /// Device address of page 0.
    pub address: u64,
}

/// Pages of a row: what of a weft block lies where in the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Pages of the row that are not wanted, from its first.
    pub skip: usize,
    /// The engine's numbers of the pages behind those.
    pub pages: Vec<u32>,
}

/// An engine's KV cache. It does not own the memory, unless it was opened from another process.
#[derive(Clone, Debug)]
pub struct Cache {
    gpu: Gpu,
    shape: Arc<Shape>,
    /// Closed with the last clone.
    _mapped: Arc<Vec<Mapped>>,
}

/// A cache that cannot be, or pages it does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Sizes.
    #[error(
        "{layers} layers, {pages} pages of {page_bytes} bytes every {page_stride}, {ratio} in a block: not a cache"
    )]
    Sizes {
        /// Layers.
        layers: usize,
        /// Pages.
        pages: u32,
        /// Bytes of a page.
        page_bytes: usize,
        /// From page to page.
        page_stride: u64,
        /// Pages of a block.
        ratio: usize,
    },
    /// Memory.
    #[error("layer {layer} is said to lie at {address:#x}, {bytes} bytes: that is not memory of the device")]
    Memory {
        /// Which.
        layer: usize,
        /// Where.
        address: u64,
        /// How long.
        bytes: u64,
    },
    /// Pages.
    #[error("a row of pages {skip} to {end}, the highest numbered {highest}: expected at most {ratio} of {pages}")]
    Row {
        /// First.
        skip: usize,
        /// Behind the last.
        end: usize,
        /// Number.
        highest: u32,
        /// Pages of a block.
        ratio: usize,
        /// Pages there are.
        pages: u32,
    },
    /// Host memory.
    #[error("a block of {got} bytes: expected {expected}")]
    Block {
        /// Bytes there are.
        got: usize,
        /// Bytes of a row.
        expected: usize,
    },
    /// What came from another process.
    #[error("what the engine exports is no cache: {0}")]
    Export(&'static str),
}

impl Cache {
    /// A cache in this process: `layers` of `pages` pages, `page_bytes` each, one every `page_stride` bytes; `ratio` of them make
    /// a block.
    ///
    /// # Errors
    /// It is not on the device, or contradicts itself.
    pub fn new(
        gpu: &Gpu,
        layers: &[Layer],
        (pages, page_bytes, page_stride): (u32, usize, u64),
        ratio: usize,
    ) -> Result<Self, GpuError> {
        let layers = layers.iter().map(|layer| layer.address).collect();
        Self::checked(gpu, Shape { layers, page_stride, page_bytes, ratio, pages }, Vec::new())
    }

    pub(crate) fn checked(gpu: &Gpu, shape: Shape, mapped: Vec<Mapped>) -> Result<Self, GpuError> {
        let layers = shape.layers.len();
        let Shape { page_stride, page_bytes, ratio, pages, .. } = shape;
        let last = page_stride.checked_mul(u64::from(pages.saturating_sub(1)));
        let span = last.and_then(|last| last.checked_add(page_bytes as u64));
        let whole = (1..=LAYERS_MAX).contains(&layers)
            && pages > 0
            && page_bytes > 0
            && page_stride >= page_bytes as u64
            && ratio.checked_mul(layers).and_then(|pages| pages.checked_mul(page_bytes)).is_some_and(|bytes| bytes > 0);
        let Some(bytes) = span.filter(|_| whole) else {
            return Err(CacheError::Sizes { layers, pages, page_bytes, page_stride, ratio }.into());
        };
        for (layer, address) in shape.layers.iter().copied().enumerate() {
            if !is_on_device(gpu, address, bytes) {
                return Err(CacheError::Memory { layer, address, bytes }.into());
            }
        }
        Ok(Self { gpu: gpu.clone(), shape: Arc::new(shape), _mapped: Arc::new(mapped) })
    }

    /// Its device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes of a block.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.shape.row_bytes()
    }

    /// Pages of a block.
    #[must_use]
    pub fn ratio(&self) -> usize {
        self.shape.ratio
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether a row has its pages in the cache, and its bytes.
    pub(crate) fn admits(&self, row: &Row, bytes: usize) -> Result<(), CacheError> {
        let Shape { ratio, pages, .. } = *self.shape;
        let (skip, end) = (row.skip, row.skip.saturating_add(row.pages.len()));
        let highest = row.pages.iter().copied().max().unwrap_or(0);
        if end > ratio || highest >= pages {
            return Err(CacheError::Row { skip, end, highest, ratio, pages });
        }
        let expected = self.row_bytes();
        if bytes == expected { Ok(()) } else { Err(CacheError::Block { got: bytes, expected }) }
    }
}

/// Whether all of a range is device memory: an allocator may have mapped it in several pieces, side by side.
fn is_on_device(gpu: &Gpu, address: u64, bytes: u64) -> bool {
    let Some(end) = address.checked_add(bytes) else { return false };
    let mut at = address;
    for _ in 0..ALLOCATIONS_MAX {
        let known = gpu.within(|| Ok((driver::is_device_memory(at)?, driver::allocation_of(at)?)));
        let Ok((true, (base, len))) = known else { return false };
        match base.checked_add(len as u64) {
            Some(until) if until >= end => return true,
            Some(until) if until > at => at = until,
            _ => return false,
        }
    }
    false
}
