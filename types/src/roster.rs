//! Who is in the cluster, as everybody says it: nodes, endpoints, and the holder numbers they were granted.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Contract, EndpointId, Generation, HolderId, HolderKey, Incarnation, NodeId, Tier};

/// A node daemon, as it announces itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name; the same as in its certificate.
    pub id: NodeId,
    /// Boot counter of the daemon.
    pub incarnation: Incarnation,
    /// Fabric address (RPC).
    pub fabric: SocketAddr,
    /// Bulk address (block streams).
    pub bulk: SocketAddr,
    /// Tiers it offers, with their capacity.
    pub capacity: BTreeMap<Tier, ByteSize>,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
}

/// An engine replica, as its node (or its operator) announces it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Name, given to the engine's connector by configuration.
    pub id: EndpointId,
    /// Boot counter of the engine: a restart empties its device tier.
    pub incarnation: Incarnation,
    /// Base URL of its OpenAI API, without a trailing slash.
    pub url: String,
    /// The node whose tiers it loads from; `None` for an engine without weft.
    pub node: Option<NodeId>,
    /// Data-parallel ranks, at least 1.
    pub ranks: u16,
    /// Contracts it serves.
    pub contracts: Vec<Contract>,
}

/// A holder number that the directory handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HolderGrant {
    /// What it is the number of.
    pub key: HolderKey,
    /// The number.
    pub holder: HolderId,
    /// Life of the number.
    pub generation: Generation,
    /// Boot counter of whom it was granted to.
    pub incarnation: Incarnation,
}

/// Everything but the blocks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    /// Node daemons, by name.
    pub nodes: BTreeMap<NodeId, NodeSpec>,
    /// Engine replicas, by name.
    pub endpoints: BTreeMap<EndpointId, EndpointSpec>,
    /// Current holders, by number.
    pub holders: BTreeMap<HolderId, HolderGrant>,
    /// Agreed contracts.
    pub contracts: Vec<Contract>,
}
