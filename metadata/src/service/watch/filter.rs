//! A watch that asked for some models only: which blocks it is told, and when it must begin anew.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use weft_index::Run;
use weft_metadata_proto::v1::{CutOff, Selection, WatchFilter, WatchItem};
use weft_metadata_state::DirectoryChange;
use weft_types::{HolderId, Roster};

/// What one watcher is told of blocks.
#[derive(Debug)]
pub(crate) struct Filter {
    selection: Selection,
    /// Holders that are left out and have, or may have, blocks: should one belong to the models, the watcher would lack them.
    dark: BTreeSet<HolderId>,
    /// The selection is as of this log index already.
    as_of: u64,
}

impl Filter {
    /// For a snapshot of this roster.
    pub(crate) fn new(asked: &WatchFilter, roster: &Roster, index: u64) -> Self {
        let selection = Selection::new(asked.models.clone(), roster);
        Self { selection, dark: BTreeSet::new(), as_of: index }
    }

    /// To go on from where `missed` begins, with what the watcher has. `roster` is as of `index`, to which `missed` leads. `None`:
    /// it lacks blocks that came before.
    pub(crate) fn resume(asked: &WatchFilter, roster: &Roster, index: u64, missed: &[Arc<WatchItem>]) -> Option<Self> {
        let mut filter = Self::new(asked, roster, index);
        let mut complete = asked.holders.clone();
        let mut wanted = filter.selection.chosen().clone();
        for change in missed.iter().flat_map(|item| changes(item)) {
            match change {
                // Everything that it has, it got since.
                DirectoryChange::HolderGranted(grant) => _ = complete.insert(grant.holder),
                // The watcher counts them in from here on, whatever became of the endpoint.
                DirectoryChange::Endpoint(_, Some(endpoint)) if filter.selection.serves(endpoint) => {
                    wanted.extend(filter.selection.at(endpoint));
                }
                _ => {}
            }
        }
        if !wanted.is_subset(&complete) {
            return None;
        }
        filter.selection.choose(complete);
        let left_out = roster.holders.keys().filter(|holder| !filter.selection.contains(**holder));
        filter.dark = left_out.copied().collect();
        Some(filter)
    }

    /// What is told of a run of the snapshot.
    pub(crate) fn run(&mut self, mut run: Run) -> Option<Run> {
        let (selection, dark) = (&self.selection, &mut self.dark);
        run.holders.retain(|holder| {
            let told = selection.contains(*holder);
            if !told {
                dark.insert(*holder);
            }
            told
        });
        (!run.holders.is_empty()).then_some(run)
    }

    /// What is told of an item; `None`: nothing.
    ///
    /// # Errors
    /// The watcher must begin anew.
    pub(crate) fn item<'a>(&mut self, item: Cow<'a, WatchItem>) -> Result<Option<Cow<'a, WatchItem>>, CutOff> {
        let WatchItem::Changes { index, .. } = *item else { return Ok(Some(item)) };
        let mut left_out = false;
        for change in changes(&item) {
            match change {
                DirectoryChange::Blocks(report) if !self.selection.contains(report.holder) => {
                    left_out = true;
                    self.dark.insert(report.holder);
                }
                DirectoryChange::Blocks(_) => {}
                _ if index <= self.as_of => {}
                change => self.follow(change)?,
            }
        }
        if !left_out {
            return Ok(Some(item));
        }
        let told = |change: &DirectoryChange| match change {
            DirectoryChange::Blocks(report) => self.selection.contains(report.holder),
            _ => true,
        };
        let changes: Vec<DirectoryChange> = changes(&item).iter().filter(|change| told(change)).cloned().collect();
        Ok((!changes.is_empty()).then_some(Cow::Owned(WatchItem::Changes { index, changes })))
    }

    fn follow(&mut self, change: &DirectoryChange) -> Result<(), CutOff> {
        if let DirectoryChange::HolderGranted(weft_types::HolderGrant { holder, .. })
        | DirectoryChange::HolderRetired(holder) = change
        {
            self.dark.remove(holder);
        }
        match self.selection.change(change).iter().any(|joined| self.dark.contains(joined)) {
            true => Err(CutOff::Filter),
            false => Ok(()),
        }
    }
}

fn changes(item: &WatchItem) -> &[DirectoryChange] {
    match item {
        WatchItem::Changes { changes, .. } => changes,
        _ => &[],
    }
}

#[cfg(test)]
mod filter_test;
