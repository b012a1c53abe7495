//! Node daemons: they join, leave and expire.

use std::ops::RangeInclusive;

use weft_index::DirectoryChange;
use weft_types::{EndpointId, HolderKey, Incarnation, NodeId, NodeSpec, Tier, codec};

use crate::outcome::Refusal;
use crate::{Directory, Outcome, endpoints};

impl Directory {
    pub(crate) fn join(&mut self, node: NodeSpec, changes: &mut Vec<DirectoryChange>) -> Result<Outcome, Refusal> {
        let known = self.roster.nodes.get(&node.id);
        let known_incarnation = known.map(|known| known.incarnation);
        if let Some(later) = known_incarnation.filter(|known| *known > node.incarnation) {
            return Err(format!(
                "node {id} joins as incarnation {ours}, but incarnation {later} of it has joined: is another process using its \
                 name, or has its state directory been lost?",
                id = node.id,
                ours = node.incarnation,
            )
            .into());
        }
        if node.capacity.contains_key(&Tier::Device) {
            return Err(format!("node {} offers a device tier: that belongs to its endpoints", node.id).into());
        }
        if known.is_none() && self.roster.nodes.len() >= self.limits.nodes as usize {
            return Err(format!(
                "{} nodes have joined, and no more may: raise the directory's node limit",
                self.limits.nodes
            )
            .into());
        }
        let old_bytes = known.map_or(0, |known| codec::encode(known).len());
        self.room_for_holders(node.capacity.len())?;
        self.specs_bytes = self.room_for_specs(old_bytes, codec::encode(&node).len())?;

        self.retire(tiers_of(&node.id), changes);
        if known_incarnation.is_some_and(|known| known < node.incarnation) {
            self.retire_devices_at(&node.id, changes);
        }
        changes.push(DirectoryChange::Node(node.id.clone(), Some(node.clone())));
        let keys = node.capacity.keys().map(|tier| HolderKey::Node { node: node.id.clone(), tier: *tier });
        let granted = self.grant(keys, node.incarnation, changes);
        self.roster.nodes.insert(node.id.clone(), node);
        Ok(granted)
    }

    /// Its endpoints stay listed: their engines may be alive, and serve without weft until their node is back.
    pub(crate) fn remove_node(&mut self, id: &NodeId, incarnation: Incarnation, changes: &mut Vec<DirectoryChange>) {
        let Some(node) = self.roster.nodes.get(id).filter(|node| node.incarnation == incarnation) else {
            return;
        };
        self.specs_bytes -= codec::encode(node).len();
        self.roster.nodes.remove(id);
        self.retire(tiers_of(id), changes);
        self.retire_devices_at(id, changes);
        changes.push(DirectoryChange::Node(id.clone(), None));
    }

    /// Nobody reports for a device whose node is gone.
    fn retire_devices_at(&mut self, node: &NodeId, changes: &mut Vec<DirectoryChange>) {
        let here = self.roster.endpoints.values().filter(|endpoint| endpoint.node.as_ref() == Some(node));
        let here: Vec<EndpointId> = here.map(|endpoint| endpoint.id.clone()).collect();
        for endpoint in here {
            self.retire(endpoints::devices_of(&endpoint), changes);
        }
    }
}

fn tiers_of(node: &NodeId) -> RangeInclusive<HolderKey> {
    let tier = |tier| HolderKey::Node { node: node.clone(), tier };
    tier(Tier::Device)..=tier(Tier::Object)
}
