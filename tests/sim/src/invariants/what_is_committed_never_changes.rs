//! What one member has applied at an index is what every member applies there, for ever: term and command.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use weft_metadata::testing::Seen;

pub(crate) const NAME: &str = "what is committed never changes";

/// Index → term, hash of the command, and who applied it first.
#[derive(Debug, Default)]
pub(crate) struct Committed(BTreeMap<u64, (u64, u64, u64)>);

impl Committed {
    pub(crate) fn applied(&mut self, member: u64, seen: &Seen<'_>) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        (seen.leader, seen.command).hash(&mut hasher);
        let found = (seen.term, hasher.finish());
        let (term, command, first) = *self.0.entry(seen.index).or_insert((found.0, found.1, member));
        if (term, command) == found {
            return Ok(());
        }
        Err(format!(
            "at index {} member {member} applies another entry, of term {}, than member {first} did, of term {term}",
            seen.index, seen.term,
        ))
    }
}
