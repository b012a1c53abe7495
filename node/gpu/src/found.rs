//! What this machine has: asked once at start, logged, and shown by `weft doctor`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::driver;
use crate::error::Refused;

/// Devices looked at: more than any host has.
const DEVICES_MAX: u32 = 64;

/// A driver, and devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Found {
    /// CUDA version that the driver speaks, as it counts: 12080 is 12.8.
    pub version: i32,
    /// Whether it takes many copies in one call.
    pub batches: bool,
    /// At least one.
    pub devices: Vec<DeviceFound>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DeviceFound {
    /// Its number in this process: environment variables can change it.
    pub ordinal: u32,
    /// What it is called.
    pub name: String,
    /// The same in every process.
    pub uuid: Uuid,
    /// All its memory.
    pub memory_bytes: u64,
    /// Whether host memory can be registered that is mapped read-only.
    pub registers_read_only: bool,
}

/// A device's name among all devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uuid(pub [u8; 16]);

/// Why there is no GPU to use. None of it is a fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Absent {
    /// No library.
    #[error(
        "no NVIDIA driver: libcuda.so.1 is not on the library path; in a container, run it with the NVIDIA runtime"
    )]
    Driver,
    /// An old one.
    #[error("the NVIDIA driver is too old: it lacks {0}; expected one of CUDA 11.4 or later")]
    Call(&'static str),
    /// It does not start, or does not answer.
    #[error("{0}; does nvidia-smi work here?")]
    Refused(#[from] Refused),
    /// A driver alone.
    #[error("a driver, but no device: see CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES")]
    Device,
    /// Not the one that was asked for.
    #[error("no device {0} here")]
    Wanted(String),
}

/// Looks for a driver and its devices. Never panics, whatever is installed.
///
/// # Errors
/// There is none to use: why.
pub fn look() -> Result<Found, Absent> {
    if !driver::is_present() {
        return Err(Absent::Driver);
    }
    if let Some(call) = driver::missing() {
        return Err(Absent::Call(call));
    }
    driver::init()?;
    let version = driver::version()?;
    let count = u32::try_from(driver::device_count()?).unwrap_or(0).min(DEVICES_MAX);
    let devices = (0..count).map(DeviceFound::ask).collect::<Result<Vec<_>, _>>()?;
    if devices.is_empty() {
        return Err(Absent::Device);
    }
    Ok(Found { version, batches: driver::batches(version), devices })
}

impl DeviceFound {
    fn ask(ordinal: u32) -> Result<Self, Refused> {
        let device = driver::device(i32::try_from(ordinal).expect("few devices"))?;
        Ok(Self {
            ordinal,
            name: driver::device_name(device)?,
            uuid: Uuid(driver::device_uuid(device)?),
            memory_bytes: driver::device_memory(device)? as u64,
            registers_read_only: driver::registers_read_only(device)?,
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.version / 1000, self.version % 1000 / 10);
        let batches = if self.batches { "batched" } else { "single" };
        write!(f, "CUDA {major}.{minor}, {batches} copies")?;
        for device in &self.devices {
            write!(f, "; device {}: {}, {} MiB", device.ordinal, device.name, device.memory_bytes >> 20)?;
        }
        Ok(())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU-")?;
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
