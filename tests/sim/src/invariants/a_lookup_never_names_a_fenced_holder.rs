//! A lookup answered from the state as of a log index names only holders that are granted there: never an earlier life of a
//! node or an endpoint, never one that was retired.

use std::collections::BTreeMap;

use weft_index::DirectoryChange;
use weft_metadata::testing::Seen;
use weft_types::{Generation, HolderGrant, HolderId};

pub(crate) const NAME: &str = "a lookup never names a fenced holder";

/// When each life of each holder number began and ended, by log index.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    lives: BTreeMap<(HolderId, Generation), Life>,
    current: BTreeMap<HolderId, Generation>,
    /// Index up to which that is known.
    known: u64,
}

#[derive(Debug)]
struct Life {
    grant: HolderGrant,
    from: u64,
    until: Option<u64>,
}

impl Lives {
    /// The first member that applies an entry tells; the others apply the same.
    pub(crate) fn applied(&mut self, seen: &Seen<'_>) {
        if seen.index <= self.known {
            return;
        }
        self.known = seen.index;
        for change in seen.applied.iter().flat_map(|applied| &applied.changes) {
            match change {
                DirectoryChange::HolderGranted(grant) => {
                    let life = Life { grant: grant.clone(), from: seen.index, until: None };
                    self.lives.insert((grant.holder, grant.generation), life);
                    self.current.insert(grant.holder, grant.generation);
                }
                DirectoryChange::HolderRetired(holder) => {
                    let ended = self.current.remove(holder).and_then(|life| self.lives.get_mut(&(*holder, life)));
                    if let Some(life) = ended {
                        life.until = Some(seen.index);
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn answered(&self, applied: u64, grants: &[HolderGrant]) -> Result<(), String> {
        for grant in grants {
            let life = self.lives.get(&(grant.holder, grant.generation));
            let granted = life.is_some_and(|life| {
                life.grant == *grant && life.from <= applied && life.until.is_none_or(|until| applied < until)
            });
            if !granted {
                return Err(format!("an answer as of index {applied} names {grant:?}, of which is known {life:?}"));
            }
        }
        Ok(())
    }
}
