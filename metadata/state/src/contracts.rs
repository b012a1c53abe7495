//! Contracts: agreed by the first endpoint that serves a model key, in force while anybody serves it.

use weft_types::{Contract, ContractConflict, EndpointId, EndpointSpec, ModelKey, Roster, codec};

/// The contracts in force once `endpoint` is in the roster, in order of their model keys. What only this endpoint served
/// before binds nobody, so an engine alone with its model may come back with another contract.
pub(crate) fn agree(roster: &Roster, endpoint: &EndpointSpec) -> Result<Vec<Contract>, ContractConflict> {
    let binding = roster.contracts.iter().filter(|contract| serves(roster, &contract.model_key, Some(&endpoint.id)));
    let mut agreed: Vec<Contract> = binding.cloned().collect();
    for offered in &endpoint.contracts {
        match agreed.binary_search_by(|known| known.model_key.cmp(&offered.model_key)) {
            Ok(at) => {
                agreed[at].check(offered)?;
                merge(&mut agreed[at], offered);
            }
            Err(at) => agreed.insert(at, offered.clone()),
        }
    }
    Ok(agreed)
}

/// Encoded bytes of these contracts.
pub(crate) fn encoded_bytes(contracts: &[Contract]) -> usize {
    contracts.iter().map(|contract| codec::encode(contract).len()).sum()
}

/// Drops the contracts that no endpoint serves any more; `true` if there were any.
pub(crate) fn forget_unserved(roster: &mut Roster) -> bool {
    let mut contracts = std::mem::take(&mut roster.contracts);
    let before = contracts.len();
    contracts.retain(|contract| serves(roster, &contract.model_key, None));
    roster.contracts = contracts;
    roster.contracts.len() != before
}

/// Whether anybody but `except` serves this model key.
fn serves(roster: &Roster, key: &ModelKey, except: Option<&EndpointId>) -> bool {
    let others = roster.endpoints.values().filter(|endpoint| Some(&endpoint.id) != except);
    others.flat_map(|endpoint| &endpoint.contracts).any(|contract| contract.model_key == *key)
}

/// Adds what an agreeing contract knows more: aliases, and digests that were unknown.
fn merge(agreed: &mut Contract, offered: &Contract) {
    for alias in &offered.aliases {
        if !agreed.aliases.contains(alias) {
            agreed.aliases.push(alias.clone());
        }
    }
    let digests = [(&mut agreed.tokenizer, &offered.tokenizer), (&mut agreed.chat_template, &offered.chat_template)];
    for (known, offered) in digests {
        if known.is_empty() {
            known.clone_from(offered);
        }
    }
}
