//! Version 1 of the metadata service.
//!
//! | method | answered by | what |
//! |---|---|---|
//! | `Join`, `KeepAlive`, `Leave` | leader | a node daemon's life in the roster |
//! | `PutEndpoint`, `RemoveEndpoint` | leader | engine replicas |
//! | `Report` | leader, after commit | what holders hold, numbered |
//! | `Digests` | leader | what a holder holds, compared with what is listed of it |
//! | `Lookup`, `Roster` | any member | applied state |
//! | `Watch` | any member | a snapshot, then every applied change, in log order |
//! | `Status` | any member | for operators |
//! | `Backup` | any member | its applied state as a snapshot file, for operators |
//! | `ChangeMembers`, `TransferLeader` | leader | for operators |
//! | `Operate` | leader, after commit | what operators change: tenants, keys, leases, the deny list |
//! | `Tenants`, `Leases`, `Audit`, `Revoked` | any member | what came of it |
//!
//! What only the leader can answer comes as a [`Reply`]: being sent to the wrong member is an answer, not an error.
//!
//! Messages go through [`weft_types::codec`], except the hot ones, which have fixed layouts drawn where they are defined:
//! [`ReportRequest`], [`LookupRequest`], [`DigestsRequest`], [`WatchItem`].

mod backup;
mod block_list;
mod digests;
mod lookup;
mod members;
mod membership;
pub mod method;
mod operate;
mod reply;
mod report;
mod selection;
mod status;
mod watch;

pub use backup::{BackupPiece, BackupRequest};
pub use block_list::BlockList;
pub use digests::{DigestsRequest, GroupDigests, HolderDigests};
pub use lookup::{HolderMatch, LookupRequest, LookupResponse, RosterRequest, RosterResponse};
pub use members::{ChangeMembersRequest, MembersChange, NewMember, TransferLeaderRequest};
pub use membership::{JoinRequest, Joined, KeepAliveRequest, LeaveRequest, PutEndpointRequest, RemoveEndpointRequest};
pub use operate::{
    AuditRequest, AuditResponse, LeaseStatus, LeasesRequest, LeasesResponse, OperateRequest, RevokedRequest,
    RevokedResponse, RevokedStatus, TenantStatus, TenantsRequest, TenantsResponse,
};
pub use reply::Reply;
pub use report::ReportRequest;
pub use selection::{Selection, WatchFilter};
pub use status::{MemberState, MemberStatus, StatusRequest, StatusResponse, TierStatus};
pub use watch::{CutOff, WatchItem, WatchRequest, WatchScope};
