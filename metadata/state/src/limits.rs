//! How large the directory may grow.

use serde::{Deserialize, Serialize};

/// Bounds of the directory. They are agreed through the log ([`crate::Command::SetLimits`]) and part of the snapshot, so
/// that every replica refuses the same things.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Distinct blocks. Default 16 million, at about 28 bytes each: 0.4 GiB a member. At most 268 million.
    pub blocks: u64,
    /// Holder numbers, those included that wait for the sweep. Default and at most 16,384.
    pub holders: u32,
    /// Node daemons. Default 1,024; at most 4,096.
    pub nodes: u32,
    /// Engine replicas. Default 4,096; at most 8,192.
    pub endpoints: u32,
    /// Tenants. Default and at most 1,024.
    pub tenants: u32,
    /// Leases. Default and at most 16,384.
    pub leases: u32,
    /// Blocks of all leases together, each counted once a lease. Default a million: about 100 MiB a member at worst; at most
    /// 16 million.
    pub leased_blocks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blocks: 16_000_000,
            holders: 16_384,
            nodes: 1_024,
            endpoints: 4_096,
            tenants: 1_024,
            leases: 16_384,
            leased_blocks: 1_000_000,
        }
    }
}

impl Limits {
    /// Above this the roster, or a list of all tenants or leases, would not fit a control message: see
    /// [`Limits::SPECS_BYTES_MAX`].
    const CEILING: Self = Self {
        blocks: u64::MAX,
        holders: 16_384,
        nodes: 4_096,
        endpoints: 8_192,
        tenants: 1_024,
        leases: 16_384,
        leased_blocks: 1 << 24,
    };

    /// Encoded bytes of all nodes', endpoints' and contracts' descriptions together. The roster travels whole in one
    /// control message (4 MiB): 1.5 MiB of these, their names once more as keys, and 16,384 grants of about 100 bytes.
    pub(crate) const SPECS_BYTES_MAX: usize = 3 << 19;

    /// Data-parallel ranks of one endpoint: several times what engines run today.
    pub(crate) const RANKS_MAX: u16 = 256;

    /// What is wrong with them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ceiling = Self::CEILING;
        let pairs = [
            (self.holders, ceiling.holders),
            (self.nodes, ceiling.nodes),
            (self.endpoints, ceiling.endpoints),
            (self.tenants, ceiling.tenants),
            (self.leases, ceiling.leases),
        ];
        let over = pairs.iter().any(|(asked, most)| asked > most) || self.leased_blocks > ceiling.leased_blocks;
        match over {
            true => Err(format!("limits {self:?} are above what one message holds: at most {ceiling:?}")),
            false => Ok(()),
        }
    }
}

/// The largest roster there can be.
#[cfg(test)]
pub(crate) mod largest {
    use std::collections::BTreeMap;

    use weft_types::codec::encode;
    use weft_types::{
        EndpointId, EndpointSpec, Generation, HolderGrant, HolderId, HolderKey, Incarnation, NodeId, NodeSpec, Roster,
    };

    use super::Limits;

    /// The longest name there is.
    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(number: u32) -> T {
        format!("{number:063}").parse().unwrap()
    }

    pub(crate) fn roster() -> Roster {
        let ceiling = Limits::CEILING;
        let incarnation = Incarnation::new(u64::MAX);
        let addr = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let node = |number| {
            let id: NodeId = name(number);
            let (capacity, labels) = (BTreeMap::new(), BTreeMap::new());
            (id.clone(), NodeSpec { id, incarnation, fabric: addr, bulk: addr, capacity, labels })
        };
        let endpoint = |number| {
            let id: EndpointId = name(number);
            let spec = EndpointSpec {
                id: id.clone(),
                incarnation,
                url: String::new(),
                node: None,
                ranks: Limits::RANKS_MAX,
                contracts: Vec::new(),
            };
            (id, spec)
        };
        let grant = |number| {
            let key = HolderKey::Device { endpoint: name(number), rank: Limits::RANKS_MAX };
            let (holder, generation) = (HolderId::new(number), Generation::new(u32::MAX));
            (holder, HolderGrant { key, holder, generation, incarnation })
        };
        let mut roster = Roster {
            nodes: (0..ceiling.nodes).map(node).collect(),
            endpoints: (0..ceiling.endpoints).map(endpoint).collect(),
            holders: (0..ceiling.holders).map(grant).collect(),
            contracts: Vec::new(),
        };
        let specs: usize = roster.nodes.values().map(|node| encode(node).len()).sum::<usize>()
            + roster.endpoints.values().map(|endpoint| encode(endpoint).len()).sum::<usize>();
        assert!(specs <= Limits::SPECS_BYTES_MAX, "the smallest descriptions of that many take {specs} bytes");
        // The lengths of both texts are written too, in up to five bytes each, and a label of one byte is in no node yet.
        let padding = "x".repeat(Limits::SPECS_BYTES_MAX - specs - 16);
        let first = roster.nodes.values_mut().next().expect("there are thousands");
        first.labels.insert("x".to_owned(), padding);
        roster
    }
}

#[cfg(test)]
mod tests {
    use weft_types::Roster;
    use weft_types::codec::{CONTROL_BYTES_MAX, decode, encode};

    use super::largest;

    #[test]
    fn the_largest_roster_fits_a_control_message() {
        let roster = largest::roster();
        let bytes = encode(&roster);
        assert!(bytes.len() <= CONTROL_BYTES_MAX - 1024, "{} bytes, and a message adds a few", bytes.len());
        assert_eq!(decode::<Roster>(&bytes).unwrap(), roster);
    }
}
