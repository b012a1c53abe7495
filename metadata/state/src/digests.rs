//! Digests of what every holder holds, kept as reports are applied, so that a node can compare without a walk over the index.
//!
//! 32 KiB a holder that holds anything. They are no part
//! of a snapshot: a restored directory makes them from its blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_index::{Change, Digests, PrefixIndex};
use weft_types::{Generation, HolderId};

use crate::Directory;

static NOTHING: Digests = Digests::new();

/// By holder. Holders that never held anything since they were granted have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct HolderDigests(BTreeMap<HolderId, Arc<Digests>>);

impl HolderDigests {
    /// Of everything in an index; retired holders are left out.
    pub(crate) fn of(index: &PrefixIndex) -> Self {
        let mut digests: BTreeMap<HolderId, Digests> = BTreeMap::new();
        let retired: BTreeSet<HolderId> = index.retired().collect();
        for run in index.runs() {
            for holder in run.holders.iter().filter(|holder| !retired.contains(holder)) {
                let digests = digests.entry(*holder).or_default();
                run.keys.iter().for_each(|key| digests.insert(key));
            }
        }
        Self(digests.into_iter().map(|(holder, digests)| (holder, Arc::new(digests))).collect())
    }

    /// Changes of a holder that took effect.
    pub(crate) fn apply(&mut self, holder: HolderId, changes: &[Change]) {
        if !changes.is_empty() {
            Arc::make_mut(self.0.entry(holder).or_default()).apply(changes);
        }
    }

    /// The holder is retired.
    pub(crate) fn forget(&mut self, holder: HolderId) {
        self.0.remove(&holder);
    }
}

impl Directory {
    /// What a holder holds, and the number of the last report applied of it; `None` if this life of it is over.
    #[must_use]
    pub fn digests(&self, holder: HolderId, generation: Generation) -> Option<(u64, &Digests)> {
        let number = self.numbers.last_report(holder, generation)?;
        Some((number, self.digests.0.get(&holder).map_or(&NOTHING, |digests| digests)))
    }
}
