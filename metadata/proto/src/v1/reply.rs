//! What the leader answers, and what everybody else does.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_index::ReportAck;
use weft_types::{ContractConflict, HolderGrant, MemberId, Operated, control_message};

use super::{HolderDigests, Joined, MembersChange};

/// Answer of a method that only the leader can serve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply<T> {
    /// Committed and applied.
    Done(T),
    /// This member does not lead. Nothing was done.
    NotLeader {
        /// Fabric address of who does, if this member knows.
        leader: Option<SocketAddr>,
    },
    /// The directory refused, with fault and remedy; sending it again will not help.
    Refused(String),
    /// A contract disagrees with the agreed one.
    Conflict(ContractConflict),
}

control_message!(
    Reply<Operated>,
    Reply<Joined>,
    Reply<bool>,
    Reply<()>,
    Reply<Vec<HolderGrant>>,
    Reply<Vec<ReportAck>>,
    Reply<Option<HolderDigests>>
);
control_message!(Reply<MembersChange>, Reply<MemberId>);
