//! A device that takes everything and keeps nothing: what the tier itself costs.

use std::io::{self, IoSlice, IoSliceMut};

use super::Device;

/// Keeps nothing; what is read back is zeroes, and so no record.
#[derive(Debug, Default)]
pub struct NoopDevice;

impl Device for NoopDevice {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn create(&self, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, _: u32) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _: u32, _: u64, into: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        into.iter_mut().for_each(|buffer| buffer.fill(0));
        Ok(())
    }

    fn write(&self, _: u32, _: u64, _: &mut [IoSlice<'_>]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn is_direct(&self) -> bool {
        true
    }
}
