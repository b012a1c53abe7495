//! The methods and their numbers.

use weft_index::ReportAck;
use weft_types::rpc::Method;
use weft_types::{HolderGrant, MemberId, Operated};

use super::{
    AuditRequest, AuditResponse, BackupPiece, BackupRequest, ChangeMembersRequest, DigestsRequest, HolderDigests,
    JoinRequest, Joined, KeepAliveRequest, LeasesRequest, LeasesResponse, LeaveRequest, LookupRequest, LookupResponse,
    MembersChange, OperateRequest, PutEndpointRequest, RemoveEndpointRequest, Reply, ReportRequest, RevokedRequest,
    RevokedResponse, RosterRequest, RosterResponse, StatusRequest, StatusResponse, TenantsRequest, TenantsResponse,
    TransferLeaderRequest, WatchItem, WatchRequest,
};

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $id:literal, $name:literal: $request:ty => $response:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $method {}

        impl Method for $method {
            const ID: u16 = $id;
            const NAME: &'static str = $name;
            type Request = $request;
            type Response = $response;
        }
    )+};
}

// Numbers are wire identity: append, never renumber, never reuse. The metadata service has 20 to 49.
methods! {
    /// A node daemon joins, or joins again.
    Join = 20, "join": JoinRequest => Reply<Joined>;
    /// Renews a node's liveness lease. `false`: no such node, or another incarnation of it, is in the roster; join again.
    KeepAlive = 21, "keep_alive": KeepAliveRequest => Reply<bool>;
    /// A node leaves properly.
    Leave = 22, "leave": LeaveRequest => Reply<()>;
    /// An engine replica appears, appears again, or changes. Its device holders are granted by rank.
    PutEndpoint = 23, "put_endpoint": PutEndpointRequest => Reply<Vec<HolderGrant>>;
    /// An engine replica is gone.
    RemoveEndpoint = 24, "remove_endpoint": RemoveEndpointRequest => Reply<()>;
    /// Numbered reports; answered after commit, one ack each, in order.
    Report = 25, "report": ReportRequest => Reply<Vec<ReportAck>>;
    /// Leading blocks by holder.
    Lookup = 26, "lookup": LookupRequest => LookupResponse;
    /// Nodes, endpoints, holders, contracts.
    Roster = 27, "roster": RosterRequest => RosterResponse;
    /// Subscription to everything that changes.
    Watch = 28, "watch": WatchRequest => WatchItem;
    /// How the member, its group and the directory are.
    Status = 29, "status": StatusRequest => StatusResponse;
    /// Compares what a holder holds with what is listed of it. `None`: this life of the holder is over; join (or put the
    /// endpoint) again.
    Digests = 30, "digests": DigestsRequest => Reply<Option<HolderDigests>>;
    /// A member of the group comes, goes, or takes another's place.
    ChangeMembers = 40, "change_members": ChangeMembersRequest => Reply<MembersChange>;
    /// Leadership is handed over. Answered with the new leader.
    TransferLeader = 41, "transfer_leader": TransferLeaderRequest => Reply<MemberId>;
    /// Done once for each request number, however often it is sent.
    Operate = 43, "operate": OperateRequest => Reply<Operated>;
    /// Tenants and sharing groups, without their secrets.
    Tenants = 44, "tenants": TenantsRequest => TenantsResponse;
    /// Leases, without their blocks.
    Leases = 45, "leases": LeasesRequest => LeasesResponse;
    /// What operators asked for last.
    Audit = 46, "audit": AuditRequest => AuditResponse;
    /// The deny list.
    Revoked = 47, "revoked": RevokedRequest => RevokedResponse;
}

/// Subscription to the bytes of a snapshot of the moment, for a backup. Ends when all were sent.
#[derive(Clone, Copy, Debug)]
pub enum Backup {}

impl Method for Backup {
    const ID: u16 = 42;
    const NAME: &'static str = "backup";
    const RESPONSE_BYTES_MAX: usize = BackupPiece::BYTES_MAX;
    type Request = BackupRequest;
    type Response = BackupPiece;
}
