//! What this node holds by its own account, for operators who compare it with what is listed of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_types::rpc::Method;
use weft_types::{EndpointId, Tier, control_message};

use crate::arenas::Arenas;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::roll::Roll;

/// Tells what the node holds. For operators.
#[derive(Clone, Copy, Debug)]
pub enum Inventory {}

impl Method for Inventory {
    // Numbers are wire identity: append, never reuse. The node has 60 to 69.
    const ID: u16 = 61;
    const NAME: &'static str = "inventory";
    type Request = InventoryRequest;
    type Response = InventoryResponse;
}

/// Request of [`Inventory`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InventoryRequest {}

/// Blocks of this moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InventoryResponse {
    /// In its host tier.
    pub host: u64,
    /// On the devices of the engines that are attached, as they say.
    pub devices: BTreeMap<EndpointId, u64>,
    /// Blocks, at least, that the directory listed wrongly at the last comparison, or not at all, by tier.
    pub differed: BTreeMap<Tier, u64>,
    /// Reports that metadata has not acknowledged.
    pub waiting: u64,
    /// In its disk tier; `None`: it has none, or does not use it now.
    pub disk: Option<u64>,
}

control_message!(InventoryRequest, InventoryResponse);

/// Counts.
pub(crate) fn inventory(
    (arenas, disk): (&Arc<Arenas>, Option<&Arc<Disk>>),
    roll: &Roll,
    metrics: &Metrics,
) -> InventoryResponse {
    let tiers = [Tier::Device, Tier::Host].into_iter().chain(disk.map(|_| Tier::Disk));
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let differed = |tier: Tier| (tier, number(metrics.divergence.blocks.with_label_values(&[tier.as_str()]).get()));
    InventoryResponse {
        host: arenas.all().iter().map(|arena| arena.tier().held().complete as u64).sum(),
        devices: roll.devices(),
        differed: tiers.map(differed).collect(),
        waiting: number(metrics.reports_waiting.get()),
        disk: disk.and_then(|disk| disk.tier()).map(|tier| tier.held().blocks as u64),
    }
}

#[cfg(test)]
mod tests {
    use weft_types::codec::encode;

    use super::*;

    #[test]
    fn messages_keep_their_bytes() {
        assert!(encode(&InventoryRequest {}).is_empty());
        let response = InventoryResponse {
            host: 3,
            devices: [("e1".parse().unwrap(), 2)].into(),
            differed: [(Tier::Host, 1)].into(),
            waiting: 0,
            disk: Some(4),
        };
        // Host blocks; one device, e1, its blocks; one tier, host, what differed; reports that wait; some blocks on disk: four.
        assert_eq!(encode(&response), [3, 1, 2, b'e', b'1', 2, 1, 1, 1, 0, 1, 4]);
    }
}
