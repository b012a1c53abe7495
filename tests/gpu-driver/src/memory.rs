//! The device's memory, which is the host's, and what of the host's is registered.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::calls::{Code, INVALID_VALUE};

/// `CU_MEMHOSTREGISTER_READ_ONLY`.
pub(crate) const READ_ONLY: u32 = 8;

/// Device addresses begin here. No process of x86-64 or aarch64 has memory there: a host that touches one faults.
const DEVICE_BASE: u64 = 1 << 56;

/// Allocations begin at multiples of this.
const ALIGN: u64 = 2 << 20;

/// A piece of device memory.
#[derive(Debug)]
pub(crate) struct Allocation {
    file: OwnedFd,
    host: usize,
    pub(crate) bytes: usize,
    /// By a handle of another process.
    pub(crate) opened: bool,
}

/// Registered memory of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration {
    pub(crate) base: usize,
    pub(crate) bytes: usize,
    pub(crate) read_only: bool,
}

/// Where a copy reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Device { host: usize },
    Host { host: usize, registered: Option<Registration> },
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: BTreeMap<u64, Allocation>,
    next: u64,
    pub(crate) registrations: Vec<Registration>,
}

impl Allocation {
    pub(crate) fn new(bytes: usize) -> Self {
        let file = memfd_create("weft-gpu-memory", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, bytes as u64).unwrap();
        let mut allocation = Self::of(file, bytes);
        allocation.opened = false;
        allocation
    }

    pub(crate) fn of(file: OwnedFd, bytes: usize) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping, known to this value alone.
        let host = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file.as_fd(), 0).unwrap() };
        Self { file, host: host as usize, bytes, opened: true }
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's; nothing pending names it, since whoever frees it ran everything first.
        unsafe { munmap(self.host as *mut _, self.bytes).unwrap() };
    }
}

impl Registration {
    pub(crate) fn overlaps(&self, base: usize, bytes: usize) -> bool {
        self.base < base + bytes && base < self.base + self.bytes
    }
}

impl Memory {
    /// Its device address.
    pub(crate) fn add(&mut self, allocation: Allocation) -> u64 {
        let address = DEVICE_BASE + self.next;
        self.next += (allocation.bytes as u64).next_multiple_of(ALIGN) + ALIGN;
        self.allocations.insert(address, allocation);
        address
    }

    pub(crate) fn remove(&mut self, address: u64) -> Option<Allocation> {
        self.allocations.remove(&address)
    }

    /// The allocation that holds an address, and where it begins.
    pub(crate) fn around(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (start, allocation) = self.allocations.range(..=address).next_back()?;
        (address < start + allocation.bytes as u64).then_some((*start, allocation))
    }

    /// Owned and opened allocations.
    pub(crate) fn count(&self) -> (usize, usize) {
        let opened = self.allocations.values().filter(|one| one.opened).count();
        (self.allocations.len() - opened, opened)
    }

    /// Whose bytes an address means.
    pub(crate) fn place(&self, address: u64, bytes: usize) -> Result<Place, Code> {
        if address < DEVICE_BASE {
            let host = usize::try_from(address).unwrap();
            let holds = |range: &&Registration| range.base <= host && host + bytes <= range.base + range.bytes;
            let registered = self.registrations.iter().find(holds).copied();
            // Like the real one: a copy must not reach over the edge of a registration.
            let edge = registered.is_none() && self.registrations.iter().any(|range| range.overlaps(host, bytes));
            return if edge { Err(INVALID_VALUE) } else { Ok(Place::Host { host, registered }) };
        }
        let (start, allocation) = self.around(address).ok_or(INVALID_VALUE)?;
        let offset = usize::try_from(address - start).unwrap();
        let inside = offset + bytes <= allocation.bytes;
        inside.then_some(Place::Device { host: allocation.host + offset }).ok_or(INVALID_VALUE)
    }
}

impl Place {
    pub(crate) fn host(self) -> usize {
        let (Self::Device { host } | Self::Host { host, .. }) = self;
        host
    }

    pub(crate) fn read(self, bytes: usize) -> Vec<u8> {
        // SAFETY: checked when the place was made; that host memory stays is what the caller of the driver promises.
        unsafe { std::slice::from_raw_parts(self.host() as *const u8, bytes) }.to_vec()
    }

    pub(crate) fn write(self, bytes: &[u8]) {
        // SAFETY: as for `read`; it is writable, or the copy would have been refused.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.host() as *mut u8, bytes.len()) };
    }
}

/// Whether this process may write there: the driver cannot pin a read-only mapping as writable.
pub(crate) fn is_writable(base: usize, bytes: usize) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let holds = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (start < base + bytes && base < end).then(|| rest.as_bytes()[1] == b'w')
    };
    maps.lines().filter_map(holds).all(|writable| writable)
}
