//! What goes wrong with a GPU.

use crate::cache::CacheError;
use crate::found::Absent;

/// A call of the driver that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the driver refuses {call}: {name} ({code})")]
pub struct Refused {
    /// Name of the call.
    pub call: &'static str,
    /// `CUresult`.
    pub code: u32,
    /// Its name, by the driver.
    pub name: String,
}

/// Why something with a GPU did not work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is none to use.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// A call failed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A cache, or pages, that contradict each other.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
