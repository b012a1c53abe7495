//! What metadata acknowledged to a client is in the directory of every member once the world is quiet: a join by its
//! incarnation, a report by its number.

use std::collections::BTreeMap;

use weft_metadata::testing::Member;
use weft_types::{EndpointId, Generation, HolderId, Incarnation, NodeId};

use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "no acknowledged fact is lost";

/// Facts, as their clients hold metadata to them.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    nodes: BTreeMap<NodeId, Incarnation>,
    endpoints: BTreeMap<EndpointId, Incarnation>,
    /// Life of a holder number → highest number of a report.
    reports: BTreeMap<(HolderId, Generation), u64>,
}

impl Acknowledged {
    /// A node joined.
    pub(crate) fn joined(&mut self, node: &NodeId, incarnation: Incarnation) {
        self.nodes.insert(node.clone(), incarnation);
    }

    /// An endpoint was put.
    pub(crate) fn put(&mut self, endpoint: &EndpointId, incarnation: Incarnation) {
        self.endpoints.insert(endpoint.clone(), incarnation);
    }

    /// It may have been removed.
    pub(crate) fn may_be_removed(&mut self, endpoint: &EndpointId) {
        self.endpoints.remove(endpoint);
    }

    /// A report of a holder was applied.
    pub(crate) fn reported(&mut self, holder: HolderId, generation: Generation, number: u64) {
        let known = self.reports.entry((holder, generation)).or_default();
        *known = number.max(*known);
    }

    /// Number of the last report acknowledged of this life of a holder.
    #[must_use]
    pub(crate) fn last_report(&self, holder: HolderId, generation: Generation) -> u64 {
        self.reports.get(&(holder, generation)).copied().unwrap_or(0)
    }

    /// Looks for the facts in a member's directory; called once quiet.
    pub(crate) fn check(&self, id: u64, member: &Member, chronicle: &Chronicle) {
        member.directory(|directory, index| {
            let roster = directory.roster();
            for (node, incarnation) in &self.nodes {
                if roster.nodes.get(node).is_none_or(|found| found.incarnation < *incarnation) {
                    let how =
                        format_args!("member {id} at {index} does not know {node} at {incarnation}, which joined");
                    chronicle.violated(NAME, how);
                }
            }
            for (endpoint, incarnation) in &self.endpoints {
                if roster.endpoints.get(endpoint).is_none_or(|found| found.incarnation < *incarnation) {
                    let how = format_args!("member {id} at {index} does not know {endpoint} at {incarnation}");
                    chronicle.violated(NAME, how);
                }
            }
        });
    }
}
