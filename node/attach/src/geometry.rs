//! How a region is cut into slots.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Slots start at multiples of this: 4 KiB, the page. A slot then shares no page with its neighbour, and a disk tier can
/// read into it and write from it with `O_DIRECT`. Blocks of real models are megabytes, so that at most a tenth of a
/// percent is lost; a simulated engine's small blocks waste more, and may.
const SLOT_ALIGN: u64 = 4096;

/// Regions end at multiples of this: 2 MiB, the huge page of x86-64 and aarch64.
pub(crate) const REGION_ALIGN: u64 = 2 << 20;

/// Largest region: 64 TiB, beyond any host. It keeps all offsets far from overflow.
const REGION_BYTES_MAX: u64 = 64 << 40;

/// Number of a slot in its region, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotIndex(pub u32);

/// Sizes of a region. All three are at least 1, and the slots fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Geometry {
    /// Bytes of a block; what lies behind them in its slot is never read.
    pub block_bytes: u64,
    /// Bytes from one slot to the next.
    pub slot_bytes: u64,
    /// Slots in the region.
    pub slots: u32,
}

/// Sizes that make no region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A block of no bytes.
    #[error("a block of 0 bytes: expected at least one part with at least one byte in the contract")]
    EmptyBlock,
    /// Not one slot fits.
    #[error("a region of {region_bytes} bytes holds no slot of {slot_bytes}: give the contract more memory")]
    TooSmall {
        /// What there is.
        region_bytes: u64,
        /// What one slot needs.
        slot_bytes: u64,
    },
    /// Sizes that contradict each other, or pass the largest region.
    #[error("{0:?} is no geometry of a region")]
    Contradiction(Geometry),
}

impl Geometry {
    /// As many slots as fit into `region_bytes`.
    ///
    /// # Errors
    /// Blocks of no bytes, or no room for one.
    pub fn fit(block_bytes: u64, region_bytes: u64) -> Result<Self, GeometryError> {
        if block_bytes == 0 {
            return Err(GeometryError::EmptyBlock);
        }
        let region_bytes = region_bytes.min(REGION_BYTES_MAX) / REGION_ALIGN * REGION_ALIGN;
        let slot_bytes = block_bytes
            .checked_next_multiple_of(SLOT_ALIGN)
            .ok_or(GeometryError::TooSmall { region_bytes, slot_bytes: u64::MAX })?;
        match u32::try_from(region_bytes / slot_bytes).unwrap_or(u32::MAX) {
            0 => Err(GeometryError::TooSmall { region_bytes, slot_bytes }),
            slots => Ok(Self { block_bytes, slot_bytes, slots }),
        }
    }

    /// Checks sizes that came from another process.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn validate(self) -> Result<Self, GeometryError> {
        let whole = self.block_bytes > 0
            && self.slots > 0
            && self.slot_bytes >= self.block_bytes
            && self.slot_bytes.is_multiple_of(SLOT_ALIGN)
            && self.slot_bytes.checked_mul(u64::from(self.slots)).is_some_and(|bytes| bytes <= REGION_BYTES_MAX);
        if whole { Ok(self) } else { Err(GeometryError::Contradiction(self)) }
    }

    /// Bytes of the whole region, rounded up to huge pages.
    #[must_use]
    pub fn region_bytes(&self) -> u64 {
        (self.slot_bytes * u64::from(self.slots)).next_multiple_of(REGION_ALIGN)
    }

    /// Where a slot starts; `None` if there is no such slot.
    #[must_use]
    pub fn offset(&self, slot: SlotIndex) -> Option<u64> {
        (slot.0 < self.slots).then(|| u64::from(slot.0) * self.slot_bytes)
    }
}

impl SlotIndex {
    /// As an index into a table of slots.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

impl fmt::Display for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_pages_and_regions_are_huge_pages() {
        let geometry = Geometry::fit(5000, (4 << 20) + 17).unwrap();
        assert_eq!(geometry, Geometry { block_bytes: 5000, slot_bytes: 8192, slots: 512 });
        assert_eq!(geometry.region_bytes(), 4 << 20);
        assert_eq!(geometry.offset(SlotIndex(511)), Some(511 * 8192));
        assert_eq!(geometry.offset(SlotIndex(512)), None);
        assert_eq!(geometry.validate(), Ok(geometry));
    }

    #[test]
    fn sizes_that_make_no_region_are_refused() {
        assert_eq!(Geometry::fit(0, 4 << 20), Err(GeometryError::EmptyBlock));
        assert!(matches!(Geometry::fit(4 << 20, 2 << 20), Err(GeometryError::TooSmall { .. })));
        assert!(matches!(Geometry::fit(u64::MAX, 2 << 20), Err(GeometryError::TooSmall { .. })));
        let sound = Geometry { block_bytes: 1, slot_bytes: 4096, slots: 1 };
        for bad in [
            Geometry { block_bytes: 0, ..sound },
            Geometry { slots: 0, ..sound },
            Geometry { block_bytes: 4097, ..sound },
            Geometry { slot_bytes: 4097, ..sound },
            Geometry { slot_bytes: 1 << 62, slots: u32::MAX, ..sound },
        ] {
            assert_eq!(bad.validate(), Err(GeometryError::Contradiction(bad)));
        }
    }
}
