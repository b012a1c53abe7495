//! What changed in the directory, as its followers hear it.

use weft_types::{Contract, EndpointId, EndpointSpec, HolderGrant, HolderId, NodeId, NodeSpec};

use crate::Report;

/// One change of the directory. Followers apply them in log order; applying a run of them twice does no harm.
#[derive(Clone, PartialEq, Debug)]
pub enum DirectoryChange {
    /// Blocks of a holder: only what took effect, so fewer than were reported, or refused for want of room.
    Blocks(Report),
    /// A holder number was granted; it holds nothing yet.
    HolderGranted(HolderGrant),
    /// A holder was retired: mask its entries now.
    HolderRetired(HolderId),
    /// The node, as it is now; `None`: gone.
    Node(NodeId, Option<NodeSpec>),
    /// The endpoint, as it is now; `None`: gone.
    Endpoint(EndpointId, Option<EndpointSpec>),
    /// Every agreed contract, as they are now.
    Contracts(Vec<Contract>),
}
