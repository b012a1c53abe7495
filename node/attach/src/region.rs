//! A shared region: a memfd cut into slots, mapped by the daemon that created it and by every engine it was handed to.
//!
//! The daemon creates it sealed against shrinking and growing, so that no process can make another fault on a page that
//! went away. It hands out two descriptors: a writable one for stores, and a read-only one (reopened through
//! `/proc/self/fd`) through which engines map what they load. A stray write through a loaded block is then a
//! segmentation fault in the process that did it, and not another engine's wrong answer.
//!
//! Pages come in by [`Region::populate`], step by step, from a thread that has time: a slot is used only after.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create, open,
};
use rustix::io::Errno;

use crate::mapping::Mapping;
use crate::{Geometry, GeometryError, SlotIndex};

/// Borrow word of a slot that is being written; any smaller number counts readers.
const WRITER: u32 = u32::MAX;

/// Seals that every region carries.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why a region could not be made or mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// A system call failed.
    #[error("cannot {operation} a region of {bytes} bytes: {source}; check memory limits (cgroup, RLIMIT_AS)")]
    System {
        /// What was attempted.
        operation: &'static str,
        /// How large.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The descriptor handed over is not what the geometry says.
    #[error("the descriptor handed over is no region of {expected} bytes: it has {got} bytes, sealed: {sealed}")]
    NotARegion {
        /// What the geometry says.
        expected: u64,
        /// What the descriptor has.
        got: u64,
        /// Whether it is sealed against shrinking.
        sealed: bool,
    },
    /// Sizes that make no region.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

/// A slot that cannot be borrowed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BorrowError {
    /// No such slot.
    #[error("{slot:?} of a region of {slots} slots")]
    OutOfRange {
        /// Asked for.
        slot: SlotIndex,
        /// How many there are.
        slots: u32,
    },
    /// This process is reading or writing it.
    #[error("{slot:?} is in use by this process")]
    InUse {
        /// Which.
        slot: SlotIndex,
    },
}

/// A mapped region. It stays mapped while any slot of it is borrowed.
#[derive(Debug)]
pub struct Region {
    geometry: Geometry,
    /// Kept by the creator, to hand it out.
    memfd: Option<OwnedFd>,
    huge: bool,
    write: Mapping,
    /// Absent in the creator, which reads through `write`.
    read: Option<Mapping>,
    /// One word a slot: how this process borrows it.
    borrows: Box<[AtomicU32]>,
}

/// Where a mapping lies: for who registers it with a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its first address.
    pub base: usize,
    /// How long it is.
    pub bytes: usize,
}

/// A pinned slot, readable. Keeps the region mapped, not the pin: that is the holder's business.
#[derive(Debug)]
pub struct SlotReader {
    region: Arc<Region>,
    slot: SlotIndex,
}

/// A reserved slot, writable.
#[derive(Debug)]
pub struct SlotWriter {
    region: Arc<Region>,
    slot: SlotIndex,
}

impl Region {
    /// Creates and maps a region: on reserved huge pages where there are enough of them, otherwise on ordinary pages
    /// with a plea for transparent huge ones. No page is there yet: see [`Region::populate`].
    ///
    /// # Errors
    /// No memory, or no permission for any.
    pub fn create(name: &str, geometry: Geometry) -> Result<Arc<Self>, RegionError> {
        let geometry = geometry.validate()?;
        Self::create_on(name, geometry, true).or_else(|_| Self::create_on(name, geometry, false)).map(Arc::new)
    }

    fn create_on(name: &str, geometry: Geometry, huge: bool) -> Result<Self, RegionError> {
        let bytes = geometry.region_bytes();
        let failed = |operation| move |source| RegionError::System { operation, bytes, source };
        let pages = if huge { MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB } else { MemfdFlags::empty() };
        let memfd =
            memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages).map_err(failed("create"))?;
        ftruncate(&memfd, bytes).map_err(failed("size"))?;
        fcntl_add_seals(&memfd, SEALS).map_err(failed("seal"))?;
        let write = Mapping::new(memfd.as_fd(), to_len(bytes)?, true).map_err(failed("map"))?;
        if !huge && let Err(error) = write.advise_huge() {
            tracing::debug!(%error, "no transparent huge pages for shared memory");
        }
        Ok(Self { geometry, memfd: Some(memfd), huge, write, read: None, borrows: words(geometry) })
    }

    /// Maps a region that another process created: `writable` for stores, `readable` for loads.
    ///
    /// # Errors
    /// The descriptors are not a sealed region of this geometry, or cannot be mapped.
    pub fn open(geometry: Geometry, writable: &OwnedFd, readable: &OwnedFd) -> Result<Arc<Self>, RegionError> {
        let geometry = geometry.validate()?;
        let bytes = geometry.region_bytes();
        let failed = |operation| move |source| RegionError::System { operation, bytes, source };
        for memfd in [writable, readable] {
            let got = u64::try_from(fstat(memfd).map_err(failed("stat"))?.st_size).unwrap_or(0);
            let sealed = fcntl_get_seals(memfd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
            if got < bytes || !sealed {
                return Err(RegionError::NotARegion { expected: bytes, got, sealed });
            }
        }
        let write = Mapping::new(writable.as_fd(), to_len(bytes)?, true).map_err(failed("map"))?;
        let read = Mapping::new(readable.as_fd(), to_len(bytes)?, false).map_err(failed("map read-only"))?;
        Ok(Arc::new(Self { geometry, memfd: None, huge: false, write, read: Some(read), borrows: words(geometry) }))
    }

    /// Its sizes.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Where it is mapped to be written, and where to be read, if that is another place. Both stay while the region is there.
    #[must_use]
    pub fn spans(&self) -> (Span, Option<Span>) {
        (self.write.span(), self.read.as_ref().map(Mapping::span))
    }

    /// Whether it lies on reserved huge pages (known to its creator only).
    #[must_use]
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// The writable descriptor, to hand out; the creator has it.
    #[must_use]
    pub fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.memfd.as_ref().map(AsFd::as_fd)
    }

    /// A read-only descriptor of the same memory, to hand out.
    ///
    /// # Errors
    /// This process did not create the region, or `/proc` is not mounted.
    pub fn readable(&self) -> Result<OwnedFd, RegionError> {
        let failed = |source| RegionError::System {
            operation: "reopen read-only (through /proc)",
            bytes: self.geometry.region_bytes(),
            source,
        };
        let memfd = self.memfd.as_ref().ok_or(failed(Errno::BADF))?;
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
    }

    /// Faults in the pages of `count` slots from `first` on. Blocks for as long as the kernel needs to clear them, about
    /// 0.3 s a GiB.
    ///
    /// # Errors
    /// No memory; slots before the fault are there.
    pub fn populate(&self, first: SlotIndex, count: u32) -> Result<(), RegionError> {
        let last = SlotIndex(first.0.saturating_add(count).saturating_sub(1));
        let (Some(start), Some(end)) = (self.geometry.offset(first), self.geometry.offset(last)) else { return Ok(()) };
        let bytes = end + self.geometry.slot_bytes - start;
        let failed = |source| RegionError::System { operation: "populate", bytes, source };
        // madvise wants page-aligned ranges, which for huge pages are 2 MiB: widen to the pages that the slots touch.
        let start = start / crate::geometry::REGION_ALIGN * crate::geometry::REGION_ALIGN;
        let end = (end + self.geometry.slot_bytes).next_multiple_of(crate::geometry::REGION_ALIGN);
        match self.write.populate(to_len(start)?, to_len(end - start)?) {
            // Kernels before 5.14 do not know the advice: pages then come with first use.
            Err(Errno::INVAL) => Ok(()),
            populated => populated.map_err(failed),
        }
    }

    /// Borrows a slot that is pinned, to read it.
    ///
    /// # Errors
    /// No such slot, or this process is writing it.
    pub fn read(self: &Arc<Self>, slot: SlotIndex) -> Result<SlotReader, BorrowError> {
        let taken = self.word(slot)?.try_update(Ordering::Acquire, Ordering::Relaxed, |readers| {
            readers.checked_add(1).filter(|readers| *readers != WRITER)
        });
        taken.map_err(|_| BorrowError::InUse { slot })?;
        Ok(SlotReader { region: Arc::clone(self), slot })
    }

    /// Borrows a slot that is reserved, to write it.
    ///
    /// # Errors
    /// No such slot, or this process is reading or writing it.
    pub fn write(self: &Arc<Self>, slot: SlotIndex) -> Result<SlotWriter, BorrowError> {
        let taken = self.word(slot)?.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed);
        taken.map_err(|_| BorrowError::InUse { slot })?;
        Ok(SlotWriter { region: Arc::clone(self), slot })
    }

    fn word(&self, slot: SlotIndex) -> Result<&AtomicU32, BorrowError> {
        self.borrows.get(slot.index()).ok_or(BorrowError::OutOfRange { slot, slots: self.geometry.slots })
    }

    /// Offset and length of a slot's block; slots are checked when they are borrowed.
    fn block(&self, slot: SlotIndex) -> (usize, usize) {
        let offset = u64::from(slot.0) * self.geometry.slot_bytes;
        let fits = "the mapping has this length, so it fits an address";
        (usize::try_from(offset).expect(fits), usize::try_from(self.geometry.block_bytes).expect(fits))
    }
}

impl Span {
    /// Offset of an address that lies in it.
    #[must_use]
    pub fn offset(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.base).filter(|offset| *offset < self.bytes)
    }
}

impl SlotReader {
    /// Which slot.
    #[must_use]
    pub fn slot(&self) -> SlotIndex {
        self.slot
    }
}

impl Deref for SlotReader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (offset, len) = self.region.block(self.slot);
        let mapping = self.region.read.as_ref().unwrap_or(&self.region.write);
        // SAFETY: the borrow word counts this reader, so nobody in this process writes; no other process does, since the
        // slot is pinned (see the crate's invariants).
        unsafe { mapping.slice(offset, len) }
    }
}

impl AsRef<[u8]> for SlotReader {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for SlotReader {
    fn drop(&mut self) {
        self.region.borrows[self.slot.index()].fetch_sub(1, Ordering::Release);
    }
}

impl SlotWriter {
    /// Which slot.
    #[must_use]
    pub fn slot(&self) -> SlotIndex {
        self.slot
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// They do not fit into the block: the number of bytes that would.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let room = self.len() - start;
        let target = self[start..].get_mut(..bytes.len()).ok_or(room)?;
        target.copy_from_slice(bytes);
        Ok(())
    }
}

impl Deref for SlotWriter {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (offset, len) = self.region.block(self.slot);
        // SAFETY: the borrow word makes this the only borrow in this process, and `self` is shared; no other process
        // touches the slot while it is reserved.
        unsafe { self.region.write.slice(offset, len) }
    }
}

impl DerefMut for SlotWriter {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (offset, len) = self.region.block(self.slot);
        // SAFETY: the borrow word makes this the only borrow in this process, and `self` is exclusive; no other process
        // touches the slot while it is reserved.
        unsafe { self.region.write.slice_mut(offset, len) }
    }
}

impl Drop for SlotWriter {
    fn drop(&mut self) {
        self.region.borrows[self.slot.index()].store(0, Ordering::Release);
    }
}

fn words(geometry: Geometry) -> Box<[AtomicU32]> {
    (0..geometry.slots).map(|_| AtomicU32::new(0)).collect()
}

fn to_len(bytes: u64) -> Result<usize, RegionError> {
    usize::try_from(bytes).map_err(|_| RegionError::System { operation: "address", bytes, source: Errno::OVERFLOW })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { block_bytes: 5000, slot_bytes: 8192, slots: 4 };

    fn created_and_opened() -> (Arc<Region>, Arc<Region>) {
        let created = Region::create("weft-test", GEOMETRY).unwrap();
        let writable = created.writable().unwrap().try_clone_to_owned().unwrap();
        let opened = Region::open(GEOMETRY, &writable, &created.readable().unwrap()).unwrap();
        (created, opened)
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let (created, opened) = created_and_opened();
        created.populate(SlotIndex(0), 4).unwrap();
        let mut writer = opened.write(SlotIndex(3)).unwrap();
        writer.write_at(4990, b"0123456789").unwrap();
        assert_eq!(writer.write_at(4991, b"0123456789"), Err(9));
        assert_eq!(writer.write_at(u64::MAX, b"0"), Err(0));
        drop(writer);
        let reader = created.read(SlotIndex(3)).unwrap();
        assert_eq!((reader.len(), &reader[4990..]), (5000, &b"0123456789"[..]));
        assert_eq!(&opened.read(SlotIndex(3)).unwrap()[4990..], b"0123456789");
    }

    #[test]
    fn a_slot_has_one_writer_or_readers() {
        let (created, _) = created_and_opened();
        let writer = created.write(SlotIndex(1)).unwrap();
        assert_eq!(created.read(SlotIndex(1)).unwrap_err(), BorrowError::InUse { slot: SlotIndex(1) });
        assert_eq!(created.write(SlotIndex(1)).unwrap_err(), BorrowError::InUse { slot: SlotIndex(1) });
        drop(writer);
        let readers = (created.read(SlotIndex(1)).unwrap(), created.read(SlotIndex(1)).unwrap());
        assert!(created.write(SlotIndex(1)).is_err());
        drop(readers);
        assert!(created.write(SlotIndex(1)).is_ok());
        assert!(matches!(created.read(SlotIndex(4)), Err(BorrowError::OutOfRange { .. })));
    }

    #[test]
    fn borrows_from_many_threads_exclude_each_other() {
        let (created, _) = created_and_opened();
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let region = &created;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        if let Ok(mut writer) = region.write(SlotIndex(0)) {
                            writer.fill(thread);
                        } else if let Ok(reader) = region.read(SlotIndex(0)) {
                            assert!(reader.iter().all(|byte| *byte == reader[0]), "a torn block");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_region_cannot_be_shrunk_and_the_read_only_descriptor_cannot_be_mapped_for_writing() {
        let (created, _) = created_and_opened();
        assert_eq!(ftruncate(created.writable().unwrap(), 0), Err(Errno::PERM));
        let readable = created.readable().unwrap();
        assert_eq!(Mapping::new(readable.as_fd(), 8192, true).unwrap_err(), Errno::ACCESS);
    }

    #[test]
    fn a_descriptor_that_is_no_region_is_refused() {
        let (created, _) = created_and_opened();
        let plain = memfd_create("plain", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&plain, GEOMETRY.region_bytes()).unwrap();
        let readable = created.readable().unwrap();
        assert!(matches!(
            Region::open(GEOMETRY, &plain, &readable),
            Err(RegionError::NotARegion { sealed: false, .. })
        ));
        let larger = Geometry { slots: 1000, ..GEOMETRY };
        let writable = created.writable().unwrap().try_clone_to_owned().unwrap();
        assert!(matches!(Region::open(larger, &writable, &readable), Err(RegionError::NotARegion { .. })));
    }
}
