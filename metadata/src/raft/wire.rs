//! Raft's three procedures on the fabric, methods 1 to 3: between members only. Each names the data directory that it is
//! meant for, as the sender's membership has it: a member that came back with an empty one must neither vote nor follow
//! under its old name, since it has forgotten what it promised. And each names the sender's group: a member hears its own only.
//!
//! Entries travel as the records that they are in the log, checksums and all, so that what a follower writes is what the
//! leader encoded:
//!
//! ```text
//! append_entries     head length u32 │ head (codec) │ records, one an entry, batch 0
//! vote               codec
//! install_snapshot   head length u32 │ head (codec) │ bytes of the snapshot's file
//! ```

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};
use weft_types::codec::{self, DecodeError};
use weft_types::control_message;
use weft_types::rpc::{Message, Method};

use super::mirror::{LogIdMirror, VoteMirror};
use super::{DiskId, LineageId, LogId, Types};
use crate::log::record::{self, Parsed};
use crate::machine::snapshot::MetaMirror;
use crate::raft::SnapshotMeta;

/// Largest append: what replication puts in one (2 MiB), or one entry if that is larger, with room to spare.
const APPEND_BYTES_MAX: usize = 8 << 20;

/// Bytes of a snapshot that go in one message. At 1 GB/s one takes a millisecond, so heartbeats are never in its way.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// The leader's entries, or its heartbeat.
#[derive(Debug)]
pub(crate) enum AppendEntries {}
/// A candidate's request.
#[derive(Debug)]
pub(crate) enum Vote {}
/// A piece of the leader's snapshot.
#[derive(Debug)]
pub(crate) enum InstallSnapshot {}

// Numbers are wire identity: append, never renumber, never reuse. Raft has 1 to 19.
impl Method for AppendEntries {
    const ID: u16 = 1;
    const NAME: &'static str = "raft_append_entries";
    const REQUEST_BYTES_MAX: usize = APPEND_BYTES_MAX;
    type Request = AppendMessage;
    type Response = AppendReply;
}

impl Method for Vote {
    const ID: u16 = 2;
    const NAME: &'static str = "raft_vote";
    type Request = VoteMessage;
    type Response = VoteReply;
}

impl Method for InstallSnapshot {
    const ID: u16 = 3;
    const NAME: &'static str = "raft_install_snapshot";
    type Request = SnapshotMessage;
    type Response = SnapshotReply;
}

/// An [`AppendEntriesRequest`] as a message.
#[derive(Debug)]
pub(crate) struct AppendMessage {
    pub(crate) to: DiskId,
    pub(crate) group: LineageId,
    pub(crate) request: AppendEntriesRequest<Types>,
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    to: DiskId,
    group: LineageId,
    vote: VoteMirror,
    previous: Option<LogIdMirror>,
    committed: Option<LogIdMirror>,
    entries: u32,
}

/// An [`AppendEntriesResponse`] as a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AppendReply {
    Success,
    PartialSuccess(Option<LogIdMirror>),
    Conflict,
    HigherVote(VoteMirror),
}

/// A [`VoteRequest`] as a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteMessage {
    pub(crate) to: DiskId,
    pub(crate) group: LineageId,
    pub(crate) vote: VoteMirror,
    pub(crate) last: Option<LogIdMirror>,
}

/// A [`VoteResponse`] as a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteReply {
    vote: VoteMirror,
    granted: bool,
    last: Option<LogIdMirror>,
}

/// A piece of the leader's snapshot, or the question how much of it has arrived: a piece of no bytes.
#[derive(Debug)]
pub(crate) struct SnapshotMessage {
    pub(crate) to: DiskId,
    pub(crate) group: LineageId,
    pub(crate) vote: super::Vote,
    pub(crate) meta: SnapshotMeta,
    /// Bytes of the whole file.
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotHead {
    to: DiskId,
    group: LineageId,
    vote: VoteMirror,
    meta: MetaMirror,
    bytes: u64,
    offset: u64,
}

/// What became of a piece of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SnapshotReply {
    /// Go on from here.
    Next(u64),
    /// It was the last, and the whole is installed; or it was refused by a higher vote.
    Done(VoteMirror),
}

control_message!(AppendReply, VoteMessage, VoteReply, SnapshotReply);

impl Message for AppendMessage {
    fn encode(&self) -> Vec<u8> {
        let Self { to, group, request } = self;
        let mut out = Vec::with_capacity(128 + request.entries.iter().map(record::entry_bytes).sum::<usize>());
        let head = AppendHead {
            to: *to,
            group: *group,
            vote: request.vote.into(),
            previous: request.prev_log_id.map(Into::into),
            committed: request.leader_commit.map(Into::into),
            entries: u32::try_from(request.entries.len()).expect("openraft sends max_payload_entries at most"),
        };
        write_head(&mut out, &head);
        for entry in &request.entries {
            record::put_entry(&mut out, 0, entry);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (head, records) = read_head::<AppendHead>(bytes, "append_entries")?;
        // One copy for all entries, which then share it.
        let records = Bytes::copy_from_slice(records);
        let (mut entries, mut offset) = (Vec::new(), 0);
        let previous: Option<LogId> = head.previous.map(Into::into);
        let first = previous.map_or(0, |id| id.index + 1);
        for expected in (first..).take(head.entries as usize) {
            let (header, len) = match record::parse(&records[offset..]) {
                Parsed::Record { header, bytes } => (header, bytes),
                Parsed::Unwritten => return Err(malformed("append_entries", "fewer entries than announced")),
                Parsed::Bad { reason, .. } => return Err(malformed("append_entries", reason)),
            };
            // openraft takes them as they come, and a log with a hole in it would vouch for what it has not.
            if header.id.index != expected {
                return Err(malformed("append_entries", "an entry does not follow on the one before it"));
            }
            let record = records.slice(offset..offset + len);
            entries.push(record::entry(&header, &record).map_err(|reason| malformed("append_entries", &reason))?);
            offset += len;
        }
        match records.len() - offset {
            0 => Ok(Self {
                to: head.to,
                group: head.group,
                request: AppendEntriesRequest {
                    vote: head.vote.into(),
                    prev_log_id: previous,
                    entries,
                    leader_commit: head.committed.map(Into::into),
                },
            }),
            extra => Err(DecodeError::Trailing { extra, kind: "append_entries" }),
        }
    }
}

impl Message for SnapshotMessage {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + self.data.len());
        let Self { to, group, vote, meta, bytes, offset, data } = self;
        let (vote, meta) = ((*vote).into(), meta.into());
        let head = SnapshotHead { to: *to, group: *group, vote, meta, bytes: *bytes, offset: *offset };
        write_head(&mut out, &head);
        out.extend_from_slice(data);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (head, data) = read_head::<SnapshotHead>(bytes, "install_snapshot")?;
        let SnapshotHead { to, group, vote, meta, bytes, offset } = head;
        Ok(Self { to, group, vote: vote.into(), meta: meta.into(), bytes, offset, data: data.to_vec() })
    }
}

fn write_head(out: &mut Vec<u8>, head: &impl Serialize) {
    let head = codec::encode(head);
    out.extend_from_slice(&u32::try_from(head.len()).expect("a head is small").to_le_bytes());
    out.extend_from_slice(&head);
}

fn read_head<'a, T: serde::de::DeserializeOwned>(
    bytes: &'a [u8],
    kind: &'static str,
) -> Result<(T, &'a [u8]), DecodeError> {
    let cut = || malformed(kind, "cut short");
    let (len, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
    let (head, body) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
    Ok((codec::decode(head)?, body))
}

fn malformed(kind: &'static str, reason: &str) -> DecodeError {
    DecodeError::Malformed { kind, reason: reason.to_owned() }
}

impl From<AppendEntriesResponse<u64>> for AppendReply {
    fn from(response: AppendEntriesResponse<u64>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(upto) => Self::PartialSuccess(upto.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendReply> for AppendEntriesResponse<u64> {
    fn from(reply: AppendReply) -> Self {
        match reply {
            AppendReply::Success => Self::Success,
            AppendReply::PartialSuccess(upto) => Self::PartialSuccess(upto.map(Into::into)),
            AppendReply::Conflict => Self::Conflict,
            AppendReply::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl VoteMessage {
    pub(crate) fn new(to: DiskId, group: LineageId, request: &VoteRequest<u64>) -> Self {
        Self { to, group, vote: request.vote.into(), last: request.last_log_id.map(Into::into) }
    }
}

impl From<VoteMessage> for VoteRequest<u64> {
    fn from(message: VoteMessage) -> Self {
        Self::new(message.vote.into(), message.last.map(Into::into))
    }
}

impl From<VoteResponse<u64>> for VoteReply {
    fn from(response: VoteResponse<u64>) -> Self {
        Self { vote: response.vote.into(), granted: response.vote_granted, last: response.last_log_id.map(Into::into) }
    }
}

impl From<VoteReply> for VoteResponse<u64> {
    fn from(reply: VoteReply) -> Self {
        let vote: super::Vote = reply.vote.into();
        Self::new(vote, reply.last.map(Into::into), reply.granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{CommandBytes, Entry, log_id};
    use openraft::EntryPayload;

    fn request() -> AppendMessage {
        let entry = |index, payload| Entry { log_id: log_id(2, 1, index), payload };
        let request = AppendEntriesRequest {
            vote: super::super::Vote::new_committed(2, 1),
            prev_log_id: Some(log_id(1, 3, 6)),
            entries: vec![
                entry(7, EntryPayload::Blank),
                entry(8, EntryPayload::Normal(CommandBytes(Bytes::from_static(b"a command")))),
            ],
            leader_commit: None,
        };
        AppendMessage { to: DiskId(77), group: LineageId(78), request }
    }

    #[test]
    fn an_append_reads_as_it_was_written() {
        let AppendMessage { to, group, request: got } = AppendMessage::decode(&request().encode()).unwrap();
        let sent = request().request;
        assert_eq!((to, group), (DiskId(77), LineageId(78)));
        assert_eq!((got.vote, got.prev_log_id, got.leader_commit), (sent.vote, sent.prev_log_id, sent.leader_commit));
        let ids = |entries: &[Entry]| entries.iter().map(|entry| entry.log_id).collect::<Vec<_>>();
        assert_eq!(ids(&got.entries), ids(&sent.entries));
        let EntryPayload::Normal(command) = &got.entries[1].payload else { panic!("a command was sent") };
        assert_eq!(&command.0[..], b"a command");
    }

    #[test]
    fn an_append_with_a_hole_is_refused() {
        for missing in 0..2 {
            let mut holed = request();
            holed.request.entries.remove(missing);
            let read = AppendMessage::decode(&holed.encode());
            assert_eq!(read.is_err(), missing == 0, "without entry {}: {read:?}", 7 + missing);
        }
        let mut late = request();
        late.request.prev_log_id = None;
        assert!(AppendMessage::decode(&late.encode()).is_err(), "entry 7 is not the first of a log");
    }

    #[test]
    fn an_append_that_was_cut_or_changed_is_refused() {
        let bytes = request().encode();
        for len in 0..bytes.len() {
            assert!(AppendMessage::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        let head = 4 + bytes[0] as usize;
        for bit in head * 8..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(AppendMessage::decode(&changed).is_err(), "bit {bit}");
        }
    }
}
