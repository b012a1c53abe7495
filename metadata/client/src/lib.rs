//! Client of the metadata group: finds the leader, retries, typed calls, and the follower of its watch.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use weft_index::ReportAck;
use weft_index::{Match, Report};
pub use weft_metadata_proto::v1::Joined;
use weft_transport::Fabric;
use weft_types::{
    ContractConflict, EndpointId, EndpointSpec, HolderGrant, Incarnation, IndexKey, NodeId, NodeSpec, Roster,
};

/// Clone is cheap.
#[derive(Clone, Debug)]
pub struct MetadataClient {}

/// Why a call to metadata failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No member answered in time.
    #[error("no metadata member of {members:?} answered within {after:?}: {last}")]
    Unavailable {
        /// Asked.
        members: Vec<SocketAddr>,
        /// Deadline.
        after: Duration,
        /// Last error seen.
        last: String,
    },
    /// The directory refused.
    #[error("metadata refused: {0}")]
    Refused(String),
    /// Contracts disagree.
    #[error(transparent)]
    Conflict(#[from] ContractConflict),
}

impl MetadataClient {
    /// `members`: any non-empty subset of the group; the rest is learnt.
    pub fn new(_fabric: Fabric, _members: Vec<SocketAddr>) -> Self {
        unimplemented!()
    }
    /// Joins, or joins again.
    pub async fn join(&self, _node: &NodeSpec, _deadline: Duration) -> Result<Joined, MetadataError> {
        unimplemented!()
    }
    /// `false`: unknown there (expired); join again.
    pub async fn keep_alive(
        &self,
        _node: &NodeId,
        _incarnation: Incarnation,
        _deadline: Duration,
    ) -> Result<bool, MetadataError> {
        unimplemented!()
    }
    /// Leaves properly.
    pub async fn leave(
        &self,
        _node: &NodeId,
        _incarnation: Incarnation,
        _deadline: Duration,
    ) -> Result<(), MetadataError> {
        unimplemented!()
    }
    /// Puts an endpoint; the grants are of its device holders, by rank.
    pub async fn put_endpoint(
        &self,
        _endpoint: &EndpointSpec,
        _deadline: Duration,
    ) -> Result<Vec<HolderGrant>, MetadataError> {
        unimplemented!()
    }
    /// Removes one.
    pub async fn remove_endpoint(
        &self,
        _endpoint: &EndpointId,
        _incarnation: Incarnation,
        _deadline: Duration,
    ) -> Result<(), MetadataError> {
        unimplemented!()
    }
    /// Sends reports to the leader; returns after commit, one ack each.
    pub async fn report(&self, _reports: &[Report], _deadline: Duration) -> Result<Vec<ReportAck>, MetadataError> {
        unimplemented!()
    }
    /// Leading blocks by holder, from any member's applied state. Each match carries its holder's grant.
    pub async fn lookup(
        &self,
        _prefix: &[IndexKey],
        _deadline: Duration,
    ) -> Result<Vec<(HolderGrant, u32)>, MetadataError> {
        unimplemented!()
    }
    /// Nodes, endpoints, holders, contracts.
    pub async fn roster(&self, _deadline: Duration) -> Result<Roster, MetadataError> {
        unimplemented!()
    }
    /// Follows the watch in the background until the follower is dropped.
    pub fn follow(&self) -> Follower {
        unimplemented!()
    }
}

/// A local copy of the index and the roster, kept up to date by a task. Clone is cheap.
#[derive(Clone, Debug)]
pub struct Follower {}

impl Follower {
    /// A first snapshot has been taken in.
    pub fn is_warm(&self) -> bool {
        unimplemented!()
    }
    /// Resolves once warm.
    pub async fn warm(&self) {
        unimplemented!()
    }
    /// Leading blocks by holder.
    pub fn leading(&self, _prefix: &[IndexKey]) -> Vec<Match> {
        unimplemented!()
    }
    /// As last heard.
    pub fn roster(&self) -> Arc<Roster> {
        unimplemented!()
    }
    /// Changes whenever the roster does.
    pub fn roster_changes(&self) -> tokio::sync::watch::Receiver<Arc<Roster>> {
        unimplemented!()
    }
    /// Time since metadata was last heard from.
    pub fn staleness(&self) -> Duration {
        unimplemented!()
    }
}
