//! How large the directory may grow.

use serde::{Deserialize, Serialize};

/// Bounds of the directory. They are agreed through the log ([`crate::Command::SetLimits`]) and part of the snapshot, so
/// that every replica refuses the same things.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Distinct blocks. Default 16 million: 24 bytes an entry and the table's slack make 0.4 to 0.8 GiB a member.
    pub blocks: u64,
    /// Holder numbers, those included that wait for the sweep. Default and at most 16,384.
    pub holders: u32,
    /// Node daemons. Default 1,024; at most 4,096.
    pub nodes: u32,
    /// Engine replicas. Default 4,096; at most 8,192.
    pub endpoints: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blocks: 16_000_000, holders: 16_384, nodes: 1_024, endpoints: 4_096 }
    }
}

impl Limits {
    /// Above this the roster would not fit a control message: see [`Limits::SPECS_BYTES_MAX`].
    const CEILING: Self = Self { blocks: u64::MAX, holders: 16_384, nodes: 4_096, endpoints: 8_192 };

    /// Encoded bytes of all nodes', endpoints' and contracts' descriptions together. The roster travels whole in one
    /// control message (4 MiB): 1.5 MiB of these, their names once more as keys, and 16,384 grants of about 100 bytes.
    pub(crate) const SPECS_BYTES_MAX: usize = 3 << 19;

    /// Data-parallel ranks of one endpoint: several times what engines run today.
    pub(crate) const RANKS_MAX: u16 = 256;

    /// What is wrong with them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ceiling = Self::CEILING;
        let over = self.holders > ceiling.holders || self.nodes > ceiling.nodes || self.endpoints > ceiling.endpoints;
        match over {
            true => Err(format!("limits {self:?} are above what one roster message holds: at most {ceiling:?}")),
            false => Ok(()),
        }
    }
}
