//! The same entry has the same outcome and makes the same changes on every member, and members that have applied as much have
//! the same state.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use weft_index::DirectoryChange;
use weft_metadata::testing::{Member, Seen};
use weft_metadata_state::{Applied, Outcome};
use weft_types::Checksum;

use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "replicas apply the same";

/// Index → hash of what applying its entry gave, and on which member first.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(BTreeMap<u64, (u64, u64)>);

impl Outcomes {
    pub(crate) fn applied(&mut self, member: u64, seen: &Seen<'_>) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        hasher.write(format!("{:?} {}", seen.applied, seen.at).as_bytes());
        let found = hasher.finish();
        let (expected, first) = *self.0.entry(seen.index).or_insert((found, member));
        if found == expected {
            return Ok(());
        }
        Err(format!(
            "entry {} gives member {member} something else than member {first}: {:?}",
            seen.index, seen.applied
        ))
    }
}

/// Compares members that have applied as much; called once quiet.
pub(crate) fn compare<'a>(members: impl Iterator<Item = (u64, &'a Member)>, chronicle: &Chronicle) {
    let mut first: BTreeMap<u64, (u64, Checksum)> = BTreeMap::new();
    for (id, member) in members {
        let (index, state) = member.directory(|directory, index| (index, directory.fingerprint()));
        let (other, expected) = first.entry(index).or_insert((id, state));
        if *expected != state {
            chronicle.violated(NAME, format_args!("at index {index} members {other} and {id} have different states"));
        }
    }
    if first.len() > 1 {
        let indices: Vec<_> = first.keys().collect();
        chronicle.violated(NAME, format_args!("once quiet, members have applied up to {indices:?}"));
    }
}

/// One word or two on an entry, for the chronicle.
pub(crate) fn summary(seen: &Seen<'_>) -> String {
    match seen.applied {
        None => "-".to_owned(),
        Some(Applied { outcome: Outcome::Reports(acks), .. }) => format!("{acks:?}"),
        Some(Applied { outcome: Outcome::Done, changes })
            if changes.iter().any(|change| matches!(change, DirectoryChange::Lease(_, None))) =>
        {
            "leases end".to_owned()
        }
        Some(Applied { outcome, changes }) => format!("{outcome:?}, {} changes", changes.len()),
    }
}
