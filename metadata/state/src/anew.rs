//! The state going on in a new group, from a backup or from the one member that is left.

use weft_types::EndpointId;

use crate::{Directory, endpoints};

impl Directory {
    /// Ends every holder's life and leaps over all generations that may have been handed out since this state was taken, the
    /// ones of numbers unknown here too: no report, late or lost on the way, from before can be taken for one of the new
    /// group. Nodes leave the roster, so that their next sign of life tells them to join again and to report everything;
    /// endpoints, contracts and limits stay.
    ///
    /// `leap` is more than any number can have had lives meanwhile.
    pub fn begin_anew(&mut self, leap: u32) {
        let mut gone = Vec::new();
        let nodes: Vec<_> = self.roster.nodes.values().map(|node| (node.id.clone(), node.incarnation)).collect();
        for (node, incarnation) in nodes {
            self.remove_node(&node, incarnation, &mut gone);
        }
        let endpoints: Vec<EndpointId> = self.roster.endpoints.keys().cloned().collect();
        for endpoint in endpoints {
            self.retire(endpoints::devices_of(&endpoint), &mut gone);
        }
        self.numbers.leap(leap, self.limits.holders);
    }
}
