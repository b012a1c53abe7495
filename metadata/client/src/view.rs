//! The local copy itself: what a watch's items do to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_index::{Change, DirectoryChange, PrefixIndex};
use weft_metadata_proto::v1::{BlockList, Selection};
use weft_types::{HolderGrant, HolderId, Roster};

use crate::Accounts;

/// Index and roster, as of the same log index.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) index: PrefixIndex,
    pub(crate) roster: Arc<Roster>,
    pub(crate) accounts: Arc<Accounts>,
    /// Blocks that the index evicted, as far as they are counted.
    pub(crate) evicted: u64,
    /// Whose blocks it has, if those of some models only.
    pub(crate) selection: Option<Selection>,
}

/// Something a metadata member must not say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("blocks of holder {0}, which was not granted")]
    UnknownHolder(HolderId),
    #[error("holder number {0} is past what an index has room for")]
    HolderNumber(HolderId),
    #[error("an item where none of its kind may be")]
    OutOfPlace,
}

impl View {
    /// Nothing yet. `budget`: bytes that the index may take.
    pub(crate) fn empty(budget: Option<usize>) -> Self {
        let index = budget.map_or_else(PrefixIndex::new, PrefixIndex::with_budget);
        Self { index, roster: Arc::default(), accounts: Arc::default(), evicted: 0, selection: None }
    }

    /// An empty copy, to be filled with a snapshot's blocks; of some models only, if they are given.
    pub(crate) fn begin(
        roster: Roster,
        budget: Option<usize>,
        models: Option<&BTreeSet<String>>,
    ) -> Result<Self, Fault> {
        for holder in roster.holders.keys() {
            check_number(*holder)?;
        }
        let selection = models.map(|models| Selection::new(models.clone(), &roster));
        Ok(Self { roster: Arc::new(roster), selection, ..Self::empty(budget) })
    }

    /// Takes in a piece of a snapshot.
    pub(crate) fn fill(&mut self, blocks: &BlockList) -> Result<(), Fault> {
        for run in blocks.runs() {
            if let Some(unknown) = run.holders.iter().find(|holder| !self.roster.holders.contains_key(holder)) {
                return Err(Fault::UnknownHolder(*unknown));
            }
            self.index.load(&run.holders, &run.keys);
        }
        Ok(())
    }

    /// Applies changes of blocks.
    pub(crate) fn blocks(&mut self, holder: HolderId, changes: &[Change]) -> Result<(), Fault> {
        if !self.roster.holders.contains_key(&holder) {
            return Err(Fault::UnknownHolder(holder));
        }
        self.index.apply_all(holder, changes, usize::MAX, |_, _| ());
        Ok(())
    }

    /// Applies any other change. A number granted anew must have been swept before.
    pub(crate) fn roster_change(&mut self, change: DirectoryChange) -> Result<(), Fault> {
        if Accounts::are_changed_by(&change) {
            Arc::make_mut(&mut self.accounts).change(change);
            return Ok(());
        }
        if let Some(selection) = &mut self.selection {
            selection.change(&change);
        }
        let roster = Arc::make_mut(&mut self.roster);
        match change {
            DirectoryChange::Blocks(report) => return self.blocks(report.holder, &report.changes),
            DirectoryChange::HolderGranted(grant) => {
                check_number(grant.holder)?;
                roster.holders.insert(grant.holder, grant);
            }
            DirectoryChange::HolderRetired(holder) => {
                if roster.holders.remove(&holder).is_some() {
                    self.index.retire(holder);
                }
            }
            DirectoryChange::Node(id, Some(node)) => _ = roster.nodes.insert(id, node),
            DirectoryChange::Node(id, None) => _ = roster.nodes.remove(&id),
            DirectoryChange::Endpoint(id, Some(endpoint)) => _ = roster.endpoints.insert(id, endpoint),
            DirectoryChange::Endpoint(id, None) => _ = roster.endpoints.remove(&id),
            DirectoryChange::Contracts(contracts) => roster.contracts = contracts,
            DirectoryChange::Tenant(..)
            | DirectoryChange::Group(..)
            | DirectoryChange::Lease(..)
            | DirectoryChange::Revoked(..) => {}
        }
        Ok(())
    }

    /// Whether the number of this grant still has entries of its former life here.
    pub(crate) fn must_sweep(&self, grant: &HolderGrant) -> bool {
        self.index.retired().any(|retired| retired == grant.holder)
    }
}

fn check_number(holder: HolderId) -> Result<(), Fault> {
    match holder.get() < PrefixIndex::HOLDERS_MAX {
        true => Ok(()),
        false => Err(Fault::HolderNumber(holder)),
    }
}
