//! Nodes and endpoints: they come, keep alive and go.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_types::{EndpointId, EndpointSpec, HolderGrant, Incarnation, NodeId, NodeSpec, ShardId, control_message};

/// Request of [`super::method::Join`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which group.
    pub shard: ShardId,
    /// Who, and what it offers.
    pub node: NodeSpec,
}

/// Answer to a join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// One for each tier, in order of tier. Reports under them are numbered from 1.
    pub grants: Vec<HolderGrant>,
    /// Liveness term: keep alive at least three times in it.
    pub lease: Duration,
}

/// Request of [`super::method::KeepAlive`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeepAliveRequest {
    /// Which group.
    pub shard: ShardId,
    /// Who.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

/// Request of [`super::method::Leave`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaveRequest {
    /// Which group.
    pub shard: ShardId,
    /// Who.
    pub node: NodeId,
    /// Which life of it: another one is not touched.
    pub incarnation: Incarnation,
}

/// Request of [`super::method::PutEndpoint`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PutEndpointRequest {
    /// Which group.
    pub shard: ShardId,
    /// The engine replica as it is now.
    pub endpoint: EndpointSpec,
}

/// Request of [`super::method::RemoveEndpoint`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemoveEndpointRequest {
    /// Which group.
    pub shard: ShardId,
    /// Who.
    pub endpoint: EndpointId,
    /// Which life of it: another one is not touched.
    pub incarnation: Incarnation,
}

control_message!(JoinRequest, KeepAliveRequest, LeaveRequest, PutEndpointRequest, RemoveEndpointRequest);
