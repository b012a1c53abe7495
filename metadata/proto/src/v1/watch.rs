//! The watch: how a follower gets a copy of the directory and keeps it.
//!
//! ```text
//!   WatchRequest { resume: None }            WatchRequest { resume: Some(i) }
//!   SnapshotBegin { index: s, roster }       Resumed              (or SnapshotBegin…, if i is no longer kept)
//!   SnapshotAccounts …                       Changes { index: > i } …
//!   SnapshotBlocks …
//!   SnapshotEnd
//!   Changes { index: > s } …                 at any time after: Heartbeat
//!                                            as the last item:  CutOff
//! ```
//!
//! # Rules
//! - `Changes` come in log order, at most one for each log entry; entries that changed nothing have none;
//! - a `Heartbeat` is sent at least every [`WatchItem::HEARTBEAT_EVERY`], but only while the member knows a leader: its
//!   absence is how a follower learns that this member may be cut off;
//! - secrets (salts, hashes of keys) are told to routers only, whatever the scope: the member looks at the certificate;
//! - with a filter, blocks of holders that are no model's that was asked for are left out of snapshot and changes (see
//!   [`super::Selection`]); indices and heartbeats are as without;
//! - a follower's state is that of the last index it was sent, so it may resume from there at any member.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_index::layout::Reader;
use weft_index::{DirectoryChange, Report};
use weft_types::codec::{self, DecodeError};
use weft_types::rpc::Message;
use weft_types::{LogTime, Roster, ShardId, control_message};

use super::{BlockList, WatchFilter};

/// Request of [`super::method::Watch`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatchRequest {
    /// Which group.
    pub shard: ShardId,
    /// Log index of the last change or heartbeat the follower has; `None`: it has nothing. A member that does not keep
    /// changes so far back sends a snapshot.
    pub resume: Option<u64>,
    /// How much of the directory.
    pub scope: WatchScope,
    /// Of the directory, the blocks of some models only.
    pub filter: Option<WatchFilter>,
}

/// What a watch is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum WatchScope {
    /// Everything: for routers.
    #[default]
    Directory,
    /// Tenants, sharing groups, leases and the deny list, without roster and blocks: for nodes. Its snapshot has an empty
    /// roster.
    Accounts,
}

/// One item of a watch. The first byte is its tag, then three zero bytes; see each for the rest.
#[derive(Clone, PartialEq, Debug)]
pub enum WatchItem {
    /// Tag 0, codec. A snapshot begins: forget everything.
    SnapshotBegin {
        /// Log index of which this is the state.
        index: u64,
        /// All but the blocks.
        roster: Roster,
    },
    /// Tag 1, fixed layout. Some of its blocks.
    SnapshotBlocks(BlockList),
    /// Tag 2, empty. It was all.
    SnapshotEnd,
    /// Tag 3, fixed layout. What one log entry changed.
    Changes {
        /// Its log index.
        index: u64,
        /// In order.
        changes: Vec<DirectoryChange>,
    },
    /// Tag 4, codec. Nothing happened, or too little to tell.
    Heartbeat {
        /// Log index up to which this member has applied and told everything.
        index: u64,
        /// Log-stamped time there.
        at: LogTime,
    },
    /// Tag 5, codec. The last item: this watch ends, start another.
    CutOff(CutOff),
    /// Tag 6, empty. Everything since the index asked for follows.
    Resumed,
    /// Tag 7, fixed layout. Some of a snapshot's tenants, groups, leases and revocations, as changes to nothing.
    SnapshotAccounts(Vec<DirectoryChange>),
}

/// Why a watch ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CutOff {
    /// The follower did not keep up, and its backlog reached this many log entries.
    Lagged {
        /// The bound.
        entries_max: u32,
    },
    /// The member took over a snapshot of its group, so that it cannot tell the changes up to there.
    Jumped,
    /// The member is stopping.
    Closing,
    /// A holder whose blocks the filter left out belongs to its models now: begin anew, with a snapshot.
    Filter,
}

/// Tags are wire identity: append, never renumber, never reuse.
mod tag {
    pub(super) const SNAPSHOT_BEGIN: u8 = 0;
    pub(super) const SNAPSHOT_BLOCKS: u8 = 1;
    pub(super) const SNAPSHOT_END: u8 = 2;
    pub(super) const CHANGES: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const CUT_OFF: u8 = 5;
    pub(super) const RESUMED: u8 = 6;
    pub(super) const SNAPSHOT_ACCOUNTS: u8 = 7;
}

/// Tags of changes inside [`WatchItem::Changes`], likewise.
mod change_tag {
    pub(super) const BLOCKS: u8 = 0;
    pub(super) const HOLDER_GRANTED: u8 = 1;
    pub(super) const HOLDER_RETIRED: u8 = 2;
    pub(super) const NODE: u8 = 3;
    pub(super) const ENDPOINT: u8 = 4;
    pub(super) const CONTRACTS: u8 = 5;
    pub(super) const TENANT: u8 = 6;
    pub(super) const GROUP: u8 = 7;
    pub(super) const LEASE: u8 = 8;
    pub(super) const REVOKED: u8 = 9;
}

impl WatchItem {
    /// Longest time between two items while the member knows a leader.
    pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
}

/// ```text
///  0     1   4          8
///  │ tag │ 0 │ body …                                      tags 0, 4, 5: codec; 2, 6: nothing
///  │ 1   │ 0 │ count n  │ n runs of blocks
///  │ 3   │ 0 │ 0        │ log index u64 │ changes, each:
///                                          tag u8 = 0 │ report
///                                          tag u8     │ length u32 │ codec
///  │ 7   │ 0 │ 0        │ changes
/// ```
impl Message for WatchItem {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::SnapshotBegin { index, roster } => item(tag::SNAPSHOT_BEGIN, &codec::encode(&(index, roster))),
            Self::SnapshotBlocks(blocks) => {
                let mut out = Vec::with_capacity(8 + blocks.bytes().len());
                out.extend_from_slice(&[tag::SNAPSHOT_BLOCKS, 0, 0, 0]);
                out.extend_from_slice(&blocks.count().to_le_bytes());
                out.extend_from_slice(blocks.bytes());
                out
            }
            Self::SnapshotEnd => item(tag::SNAPSHOT_END, &[]),
            Self::Changes { index, changes } => {
                let mut out = item(tag::CHANGES, &[0; 4]);
                out.extend_from_slice(&index.to_le_bytes());
                changes.iter().for_each(|change| write_change(&mut out, change));
                out
            }
            Self::Heartbeat { index, at } => item(tag::HEARTBEAT, &codec::encode(&(index, at))),
            Self::CutOff(reason) => item(tag::CUT_OFF, &codec::encode(reason)),
            Self::Resumed => item(tag::RESUMED, &[]),
            Self::SnapshotAccounts(changes) => {
                let mut out = item(tag::SNAPSHOT_ACCOUNTS, &[0; 4]);
                changes.iter().for_each(|change| write_change(&mut out, change));
                out
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "WatchItem");
        let tag = reader.u8()?;
        reader.zeros(3)?;
        match tag {
            tag::SNAPSHOT_BLOCKS => {
                let count = reader.u32()?;
                let blocks = reader.bytes(reader.remaining())?;
                return Ok(Self::SnapshotBlocks(BlockList::decode(count, blocks)?));
            }
            tag::CHANGES => {
                reader.zeros(4)?;
                let index = reader.u64()?;
                return Ok(Self::Changes { index, changes: read_changes(&mut reader)? });
            }
            tag::SNAPSHOT_ACCOUNTS => {
                reader.zeros(4)?;
                return Ok(Self::SnapshotAccounts(read_changes(&mut reader)?));
            }
            _ => {}
        }
        let body = reader.bytes(reader.remaining())?;
        Ok(match tag {
            tag::SNAPSHOT_BEGIN => {
                let (index, roster) = codec::decode(body)?;
                Self::SnapshotBegin { index, roster }
            }
            tag::SNAPSHOT_END => <()>::decode(body).map(|()| Self::SnapshotEnd)?,
            tag::HEARTBEAT => {
                let (index, at) = codec::decode(body)?;
                Self::Heartbeat { index, at }
            }
            tag::CUT_OFF => Self::CutOff(codec::decode(body)?),
            tag::RESUMED => <()>::decode(body).map(|()| Self::Resumed)?,
            unknown => return Err(reader.malformed(format!("tag {unknown} is unknown to this release"))),
        })
    }
}

fn item(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag, 0, 0, 0], body].concat()
}

fn write_change(out: &mut Vec<u8>, change: &DirectoryChange) {
    let (tag, body) = match change {
        DirectoryChange::Blocks(report) => {
            out.push(change_tag::BLOCKS);
            return report.write(out);
        }
        DirectoryChange::HolderGranted(grant) => (change_tag::HOLDER_GRANTED, codec::encode(grant)),
        DirectoryChange::HolderRetired(holder) => (change_tag::HOLDER_RETIRED, codec::encode(holder)),
        DirectoryChange::Node(id, node) => (change_tag::NODE, codec::encode(&(id, node))),
        DirectoryChange::Endpoint(id, endpoint) => (change_tag::ENDPOINT, codec::encode(&(id, endpoint))),
        DirectoryChange::Contracts(contracts) => (change_tag::CONTRACTS, codec::encode(contracts)),
        DirectoryChange::Tenant(id, tenant) => (change_tag::TENANT, codec::encode(&(id, tenant))),
        DirectoryChange::Group(id, group) => (change_tag::GROUP, codec::encode(&(id, group))),
        DirectoryChange::Lease(id, lease) => (change_tag::LEASE, codec::encode(&(id, lease))),
        DirectoryChange::Revoked(serial, listed) => (change_tag::REVOKED, codec::encode(&(serial, listed))),
    };
    out.push(tag);
    out.extend_from_slice(&u32::try_from(body.len()).expect("specs are bounded by the directory").to_le_bytes());
    out.extend_from_slice(&body);
}

fn read_changes(reader: &mut Reader<'_>) -> Result<Vec<DirectoryChange>, DecodeError> {
    let mut changes = Vec::new();
    while reader.remaining() > 0 {
        changes.push(read_change(reader)?);
    }
    Ok(changes)
}

fn read_change(reader: &mut Reader<'_>) -> Result<DirectoryChange, DecodeError> {
    let tag = reader.u8()?;
    if tag == change_tag::BLOCKS {
        return Ok(DirectoryChange::Blocks(Report::read(reader)?));
    }
    let len = reader.u32()? as usize;
    let body = reader.bytes(len)?;
    Ok(match tag {
        change_tag::HOLDER_GRANTED => DirectoryChange::HolderGranted(codec::decode(body)?),
        change_tag::HOLDER_RETIRED => DirectoryChange::HolderRetired(codec::decode(body)?),
        change_tag::NODE => {
            let (id, node) = codec::decode(body)?;
            DirectoryChange::Node(id, node)
        }
        change_tag::ENDPOINT => {
            let (id, endpoint) = codec::decode(body)?;
            DirectoryChange::Endpoint(id, endpoint)
        }
        change_tag::CONTRACTS => DirectoryChange::Contracts(codec::decode(body)?),
        change_tag::TENANT => {
            let (id, tenant) = codec::decode(body)?;
            DirectoryChange::Tenant(id, tenant)
        }
        change_tag::GROUP => {
            let (id, group) = codec::decode(body)?;
            DirectoryChange::Group(id, group)
        }
        change_tag::LEASE => {
            let (id, lease) = codec::decode(body)?;
            DirectoryChange::Lease(id, lease)
        }
        change_tag::REVOKED => {
            let (serial, listed) = codec::decode(body)?;
            DirectoryChange::Revoked(serial, listed)
        }
        unknown => return Err(reader.malformed(format!("change tag {unknown} is unknown to this release"))),
    })
}

control_message!(WatchRequest);
