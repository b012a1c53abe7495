//! Engine replicas: put and removed.

use std::ops::RangeInclusive;

use weft_index::DirectoryChange;
use weft_types::{EndpointId, EndpointSpec, HolderKey, Incarnation, codec};

use crate::outcome::Refusal;
use crate::{Directory, Limits, Outcome, contracts};

impl Directory {
    pub(crate) fn put_endpoint(
        &mut self,
        endpoint: EndpointSpec,
        changes: &mut Vec<DirectoryChange>,
    ) -> Result<Outcome, Refusal> {
        self.check_endpoint(&endpoint)?;
        let agreed = contracts::agree(&self.roster, &endpoint)?;
        let old_bytes = self.roster.endpoints.get(&endpoint.id).map_or(0, |known| codec::encode(known).len());
        let old_bytes = old_bytes + contracts::encoded_bytes(&self.roster.contracts);
        let new_bytes = codec::encode(&endpoint).len() + contracts::encoded_bytes(&agreed);
        self.room_for_holders(usize::from(endpoint.ranks))?;
        self.specs_bytes = self.room_for_specs(old_bytes, new_bytes)?;

        self.retire(devices_of(&endpoint.id), changes);
        if self.roster.contracts != agreed {
            changes.push(DirectoryChange::Contracts(agreed.clone()));
            self.roster.contracts = agreed;
        }
        changes.push(DirectoryChange::Endpoint(endpoint.id.clone(), Some(endpoint.clone())));
        let keys = (0..endpoint.ranks).map(|rank| HolderKey::Device { endpoint: endpoint.id.clone(), rank });
        let granted = self.grant(keys, endpoint.incarnation, changes);
        self.roster.endpoints.insert(endpoint.id.clone(), endpoint);
        Ok(granted)
    }

    fn check_endpoint(&self, endpoint: &EndpointSpec) -> Result<(), Refusal> {
        let EndpointSpec { id, incarnation, .. } = endpoint;
        if !(1..=Limits::RANKS_MAX).contains(&endpoint.ranks) {
            let max = Limits::RANKS_MAX;
            return Err(format!("endpoint {id} has {} data-parallel ranks: expected 1 to {max}", endpoint.ranks).into());
        }
        if let Some(node) = endpoint.node.as_ref().filter(|node| !self.roster.nodes.contains_key(node)) {
            return Err(format!("endpoint {id} is at node {node}, which has not joined: it must join first").into());
        }
        if endpoint.contracts.iter().any(|c| !c.model_key.adapter.is_empty() || !c.model_key.salt.is_empty()) {
            return Err(format!("a contract of endpoint {id} names an adapter or a salt: leave both empty").into());
        }
        match self.roster.endpoints.get(id) {
            Some(known) if known.incarnation > *incarnation => Err(format!(
                "endpoint {id} comes as incarnation {incarnation}, but incarnation {} of it is here: is another engine using \
                 its name?",
                known.incarnation,
            )
            .into()),
            None if self.roster.endpoints.len() >= self.limits.endpoints as usize => Err(format!(
                "{} endpoints are listed, and no more may be: remove some, or raise the directory's endpoint limit",
                self.limits.endpoints,
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// Removes this life of an endpoint, or an earlier one: a later life that goes without ever having been put is no reason for
    /// an earlier one to stay.
    pub(crate) fn remove_endpoint(
        &mut self,
        id: &EndpointId,
        incarnation: Incarnation,
        changes: &mut Vec<DirectoryChange>,
    ) {
        let Some(endpoint) = self.roster.endpoints.get(id).filter(|known| known.incarnation <= incarnation) else {
            return;
        };
        self.specs_bytes -= codec::encode(endpoint).len() + contracts::encoded_bytes(&self.roster.contracts);
        self.roster.endpoints.remove(id);
        self.retire(devices_of(id), changes);
        changes.push(DirectoryChange::Endpoint(id.clone(), None));
        if contracts::forget_unserved(&mut self.roster) {
            changes.push(DirectoryChange::Contracts(self.roster.contracts.clone()));
        }
        self.specs_bytes += contracts::encoded_bytes(&self.roster.contracts);
    }
}

/// Keys of all of an endpoint's device holders.
pub(crate) fn devices_of(endpoint: &EndpointId) -> RangeInclusive<HolderKey> {
    let rank = |rank| HolderKey::Device { endpoint: endpoint.clone(), rank };
    rank(0)..=rank(u16::MAX)
}
