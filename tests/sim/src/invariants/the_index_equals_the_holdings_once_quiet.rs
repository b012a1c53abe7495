//! Once nothing is lost any more and everybody has said what they had to say, every member's index lists exactly what the
//! holders hold.

use std::collections::{BTreeMap, BTreeSet};

use weft_metadata::testing::Member;
use weft_types::{HolderKey, IndexKey};

use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "the index equals the holdings once quiet";

/// What holders hold.
pub(crate) type Holdings = BTreeMap<HolderKey, BTreeSet<IndexKey>>;

/// What a member's index lists, of these blocks.
pub(crate) fn listed(member: &Member, blocks: &[IndexKey]) -> Holdings {
    member.directory(|directory, _| {
        let holders = &directory.roster().holders;
        let mut listed: Holdings = holders.values().map(|grant| (grant.key.clone(), BTreeSet::new())).collect();
        for block in blocks {
            for found in directory.leading(std::slice::from_ref(block)) {
                let key = holders.get(&found.holder).map(|grant| grant.key.clone());
                let key = key.expect("the directory finds only holders that are granted");
                listed.entry(key).or_default().insert(*block);
            }
        }
        listed
    })
}

/// Compares; called once quiet.
pub(crate) fn check(id: u64, member: &Member, blocks: &[IndexKey], held: &Holdings, chronicle: &Chronicle) {
    let listed = listed(member, blocks);
    for (key, blocks) in held {
        let found = listed.get(key);
        if found != Some(blocks) {
            let missing = blocks.iter().filter(|block| !found.is_some_and(|found| found.contains(*block))).count();
            let wrong = found.map_or(0, |found| found.difference(blocks).count());
            let how =
                format_args!("member {id} lists of {key} {missing} too few, {wrong} too many, of {}", blocks.len());
            chronicle.violated(NAME, how);
        }
    }
    for (key, found) in listed.iter().filter(|(key, found)| !held.contains_key(*key) && !found.is_empty()) {
        chronicle.violated(NAME, format_args!("member {id} lists {} blocks of {key}, which is not there", found.len()));
    }
}
