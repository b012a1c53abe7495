//! Where segments lie: the seam between the disk tier and files, or what a test puts in their place.
//!
//! All calls block, and may come from any thread. Offsets and lengths are whole pages, and buffers begin at one.

#[cfg(test)]
mod faulty;
mod file;
mod noop;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};

#[cfg(test)]
pub(crate) use faulty::{Faults, FaultyDevice};
pub use file::{FileDevice, FileDeviceError};
pub use noop::NoopDevice;

/// Segments of one length, by number.
pub trait Device: fmt::Debug + Send + Sync {
    /// Numbers of the segments that are there, in any order.
    ///
    /// # Errors
    /// They cannot be listed.
    fn segments(&self) -> io::Result<Vec<u32>>;

    /// Makes a segment of `bytes`, set aside if the device can. One that is there already is kept, with its content.
    ///
    /// # Errors
    /// No space, most likely.
    fn create(&self, segment: u32, bytes: u64) -> io::Result<()>;

    /// Gives a segment back.
    ///
    /// # Errors
    /// The device failed.
    fn remove(&self, segment: u32) -> io::Result<()>;

    /// Length of a segment.
    ///
    /// # Errors
    /// There is no such segment.
    fn bytes(&self, segment: u32) -> io::Result<u64>;

    /// Fills the buffers, one after the other, from `offset` on.
    ///
    /// # Errors
    /// Not all of it could be read.
    fn read(&self, segment: u32, offset: u64, into: &mut [IoSliceMut<'_>]) -> io::Result<()>;

    /// Writes the buffers, one after the other, from `offset` on. They last from the next [`Device::sync`].
    ///
    /// # Errors
    /// Not all of it could be written; part of it may be.
    fn write(&self, segment: u32, offset: u64, from: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// What was written to a segment survives a loss of power from now on.
    ///
    /// # Errors
    /// Nothing is known of what was written since the last time.
    fn sync(&self, segment: u32) -> io::Result<()>;

    /// Whether bytes go past the page cache.
    fn is_direct(&self) -> bool;
}
