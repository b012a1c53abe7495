//! What changed in the directory, as its followers hear it.

use weft_types::{
    Contract, EndpointId, EndpointSpec, GroupId, HolderGrant, HolderId, Lease, LeaseId, NodeId, NodeSpec, Serial,
    SharingGroup, Tenant, TenantId,
};

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
    /// The tenant, as it is now; `None`: gone.
    Tenant(TenantId, Option<Tenant>),
    /// The sharing group, as it is now; `None`: gone.
    Group(GroupId, Option<SharingGroup>),
    /// The lease, as it is now; `None`: it ended.
    Lease(LeaseId, Option<Lease>),
    /// A certificate is on the deny list now, or no longer.
    Revoked(Serial, bool),
}
