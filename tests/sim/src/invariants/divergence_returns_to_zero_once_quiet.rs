//! Whatever went unnoticed between a node and the directory, once quiet the node's own last comparison of each holder with what
//! is listed of it finds nothing that differs.

use crate::chronicle::Chronicle;
use crate::node::Node;

pub(crate) const NAME: &str = "divergence returns to zero once quiet";

/// Asks the node; called once quiet.
pub(crate) fn check(node: &Node, chronicle: &Chronicle) {
    if let Some(which) = node.differs() {
        chronicle.violated(NAME, format_args!("{}: its {which:?} is not listed as it is", node.id));
    }
}
