//! Where bytes lie.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kind of memory that holds a block, nearest to the engine first. A *peer* is where a load comes from, not a tier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Accelerator memory of an engine.
    Device,
    /// The node's shared-memory arena.
    Host,
    /// Local NVMe.
    Disk,
    /// Object storage.
    Object,
}

impl Tier {
    /// Every tier, nearest first.
    pub const ALL: [Self; 4] = [Self::Device, Self::Host, Self::Disk, Self::Object];

    /// Lower-case word, as in metrics and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Host => "host",
            Self::Disk => "disk",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
