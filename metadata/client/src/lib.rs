//! Client of the metadata group.
//!
//! [`MetadataClient`] makes typed calls: writes find the leader and are sent again until they are answered or their deadline
//! has passed; reads go to the member that answered last and fail over. [`Follower`] keeps a local copy of the directory up
//! to date, so that a router's lookups cost no message at all.
//!
//! # What a retry may do
//! A write whose answer was lost may have been applied, and is sent again. That is safe: reports are numbered, removals name
//! an incarnation, a second join or put is only another grant, whose numbers replace the first's, and an operator's request
//! has a number of its own.

mod accounts;
mod attempts;
mod client;
mod error;
mod follower;
mod group;
mod metrics;
mod revocations;
mod view;

pub use accounts::Accounts;
pub use client::MetadataClient;
pub use error::MetadataError;
pub use follower::Follower;
pub use metrics::FollowerMetrics;
pub use weft_index::ReportAck;
pub use weft_metadata_proto::v1::{GroupDigests, HolderDigests, Joined, StatusResponse};
