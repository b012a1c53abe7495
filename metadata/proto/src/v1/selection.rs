//! Which holders a watch is about that asks for some models only.
//!
//! A block's key is a hash and does not name its model; holders do. A device holder belongs to the models of its endpoint, a node's to
//! those of the endpoints at it. The member and the follower keep the same selection, by the same changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_index::DirectoryChange;
use weft_types::{EndpointId, EndpointSpec, HolderId, HolderKey, NodeId, Roster};

/// Asks for the blocks of some models only. Roster and accounts come whole: they are small, and say what belongs to what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatchFilter {
    /// Names of models, canonical or aliases; at most [`WatchFilter::MODELS_MAX`].
    pub models: BTreeSet<String>,
    /// With `resume`: holders of which the follower has every block.
    pub holders: BTreeSet<HolderId>,
}

impl WatchFilter {
    /// More models than any one router serves.
    pub const MODELS_MAX: usize = 1024;
}

/// The holders that belong to some models. One that did once stays until it is retired: an engine that restarts, or comes back with
/// another model, leaves its blocks at the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    models: BTreeSet<String>,
    /// Endpoints that serve one of them, and where they are.
    serving: BTreeMap<EndpointId, Option<NodeId>>,
    /// Every holder.
    keys: BTreeMap<HolderId, HolderKey>,
    chosen: BTreeSet<HolderId>,
}

impl Selection {
    /// As of a roster.
    #[must_use]
    pub fn new(models: BTreeSet<String>, roster: &Roster) -> Self {
        let keys = roster.holders.values().map(|grant| (grant.holder, grant.key.clone())).collect();
        let mut selection = Self { models, serving: BTreeMap::new(), keys, chosen: BTreeSet::new() };
        for endpoint in
            roster.endpoints.values().filter(|endpoint| selection.serves(endpoint)).cloned().collect::<Vec<_>>()
        {
            selection.serving.insert(endpoint.id, endpoint.node);
        }
        let chosen = selection.keys.iter().filter(|(_, key)| selection.belongs(key));
        selection.chosen = chosen.map(|(holder, _)| *holder).collect();
        selection
    }

    /// The holders.
    #[must_use]
    pub fn chosen(&self) -> &BTreeSet<HolderId> {
        &self.chosen
    }

    /// Whether blocks of this holder are told.
    #[must_use]
    pub fn contains(&self, holder: HolderId) -> bool {
        self.chosen.contains(&holder)
    }

    /// Adds holders, whatever they belong to.
    pub fn choose(&mut self, holders: impl IntoIterator<Item = HolderId>) {
        self.chosen.extend(holders);
    }

    /// Takes over a change; returns the holders that were there and belong to the models from now on only.
    pub fn change(&mut self, change: &DirectoryChange) -> Vec<HolderId> {
        match change {
            DirectoryChange::HolderGranted(grant) => {
                self.keys.insert(grant.holder, grant.key.clone());
                if self.belongs(&grant.key) {
                    self.chosen.insert(grant.holder);
                } else {
                    self.chosen.remove(&grant.holder);
                }
            }
            DirectoryChange::HolderRetired(holder) => {
                self.keys.remove(holder);
                self.chosen.remove(holder);
            }
            DirectoryChange::Endpoint(_, Some(endpoint)) if self.serves(endpoint) => {
                self.serving.insert(endpoint.id.clone(), endpoint.node.clone());
                let joined: Vec<HolderId> = self.at(endpoint).filter(|holder| !self.contains(*holder)).collect();
                self.choose(joined.iter().copied());
                return joined;
            }
            DirectoryChange::Endpoint(id, _) => _ = self.serving.remove(id),
            _ => {}
        }
        Vec::new()
    }

    /// Holders of the node at which an endpoint is.
    pub fn at(&self, endpoint: &EndpointSpec) -> impl Iterator<Item = HolderId> {
        let node = endpoint.node.clone();
        self.keys.iter().filter_map(move |(holder, key)| match key {
            HolderKey::Node { node: of, .. } => (Some(of) == node.as_ref()).then_some(*holder),
            HolderKey::Device { .. } => None,
        })
    }

    /// Whether an endpoint serves one of the models.
    #[must_use]
    pub fn serves(&self, endpoint: &EndpointSpec) -> bool {
        let mut names = endpoint
            .contracts
            .iter()
            .flat_map(|contract| std::iter::once(&contract.model_key.model).chain(&contract.aliases));
        names.any(|name| self.models.contains(name))
    }

    fn belongs(&self, key: &HolderKey) -> bool {
        match key {
            HolderKey::Device { endpoint, .. } => self.serving.contains_key(endpoint),
            HolderKey::Node { node, .. } => self.serving.values().flatten().any(|of| of == node),
        }
    }
}
