//! What members ask each other outside of Raft, method 4: is there a group already, and which data directory is yours?

use openraft::Raft;
use openraft::error::Fatal;
use serde::{Deserialize, Serialize};
use weft_transport::{Refusal, RefusalCode, Routes};
use weft_types::rpc::Method;
use weft_types::{Role, control_message};

use super::{DiskId, LineageId, Types};
use crate::allegiance::Allegiance;

/// The question.
#[derive(Debug)]
pub(crate) enum Hello {}

/// Says nothing: who asks is in its certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HelloRequest;

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HelloReply {
    /// Data directory of who answers.
    pub(crate) disk: DiskId,
    /// The group that it belongs to.
    pub(crate) group: Option<LineageId>,
    /// It has a log: there is or was a group.
    pub(crate) formed: bool,
    /// It has voted, or was about to, or has a log. Without one: for a group that it never heard of again.
    pub(crate) voted: bool,
    /// Data directory that the group, as far as this member knows, expects of who asks; `None`: it is no member.
    pub(crate) yours: Option<DiskId>,
}

control_message!(HelloRequest, HelloReply);

impl Method for Hello {
    const ID: u16 = 4;
    const NAME: &'static str = "raft_hello";
    type Request = HelloRequest;
    type Response = HelloReply;
}

/// What a member has of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) formed: bool,
    pub(crate) voted: bool,
}

/// What this member has of a group. A log that it has just got may not be told yet; then it has voted, all the same.
pub(crate) async fn standing(raft: &Raft<Types>) -> Result<Standing, Fatal<u64>> {
    let formed = raft.metrics().borrow().last_log_index.is_some();
    Ok(Standing { formed, voted: formed || raft.is_initialized().await? })
}

/// Adds method 4.
pub(crate) fn routes(routes: Routes, raft: &Raft<Types>, allegiance: &Allegiance) -> Routes {
    let (raft, allegiance) = (raft.clone(), allegiance.clone());
    routes.rpc::<Hello, _, _>(&[Role::Metadata], move |peer, _| {
        let (raft, allegiance) = (raft.clone(), allegiance.clone());
        async move {
            let failed = |error: String| Refusal::new(RefusalCode::Failed, error);
            let Standing { formed, voted } = standing(&raft).await.map_err(|error| failed(error.to_string()))?;
            let asks = peer.name.as_str().parse::<u64>().ok();
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let node = asks.and_then(|id| metrics.membership_config.membership().get_node(&id));
            let (disk, group) = (allegiance.disk(), allegiance.group());
            Ok(HelloReply { disk, group, formed, voted: voted || group.is_some(), yours: node.map(|node| node.disk) })
        }
    })
}
