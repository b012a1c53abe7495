//! Mapped memory: every `unsafe` line of the node is in this file.
//!
//! A [`Mapping`] is a shared mapping of a memfd, unmapped when dropped. It gives out slices only to `region.rs`, which
//! keeps a borrow word per slot; the two together are what makes the crate's surface safe.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::region::Span;

/// A shared mapping of a memfd.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: a mapping is plain memory owned by this value. All access to it goes through `slice` and `slice_mut`, whose
// callers hold the borrow word of the slot.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `memfd`.
    pub(crate) fn new(memfd: BorrowedFd<'_>, len: usize, writable: bool) -> Result<Self, Errno> {
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a null hint lets the kernel choose a free range, so no existing memory is touched.
        let base = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, memfd, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, len, writable })
    }

    /// Its addresses.
    pub(crate) fn span(&self) -> Span {
        Span { base: self.base.as_ptr().expose_provenance(), bytes: self.len }
    }

    /// Asks for huge pages; a kernel that has none to give says so, which changes nothing.
    pub(crate) fn advise_huge(&self) -> Result<(), Errno> {
        self.advise(0, self.len, Advice::LinuxHugepage)
    }

    /// Faults the pages of a range in, writable, without changing what they hold.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<(), Errno> {
        self.advise(offset, len, Advice::LinuxPopulateWrite)
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) -> Result<(), Errno> {
        let range = self.range(offset, len);
        // SAFETY: the range lies inside this mapping, and neither advice changes the content of its pages.
        unsafe { madvise(range.as_ptr().cast::<c_void>(), len, advice) }
    }

    /// Bytes of a range.
    ///
    /// # Safety
    /// While the slice lives nobody in this process holds a `slice_mut` that overlaps it, and no other process writes
    /// to it: its slot is pinned (or reserved by us).
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let range = self.range(offset, len);
        // SAFETY: the range is mapped and readable, memfd pages start out as zeroes, and the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(range.as_ptr(), len) }
    }

    /// Bytes of a range, to write.
    ///
    /// # Safety
    /// While the slice lives nobody in this process holds another slice that overlaps it, through this mapping or any
    /// other of the same memfd, and no other process touches it: its slot is reserved by us.
    #[expect(clippy::mut_from_ref, reason = "exclusive use is the caller's promise, kept by the slot's borrow word")]
    pub(crate) unsafe fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!(self.writable, "a read-only mapping is never written");
        let range = self.range(offset, len);
        // SAFETY: the range is mapped and writable, and the caller keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(range.as_ptr(), len) }
    }

    /// # Panics
    /// When the range does not lie inside the mapping.
    fn range(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "range inside the mapping");
        // SAFETY: the assertion above keeps the result inside the mapped range.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and slices borrow from it, so that none is left.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()), "a whole mapping can always be unmapped");
    }
}
