//! What a member with an empty data directory does: it asks the others what they know, and only if all of them are as new as
//! itself does the one with the lowest id form a group.
//!
//! ```text
//!  every configured member answers, none has a group ──► the lowest id forms it, of all of them
//!  some member has a group, and expects this directory ─► the leader will call
//!  some member has a group without this member ─────────► wait to be added
//!  some member has a group, and expects another directory of this id
//!                       ─► this member lost what it promised: say so, take no part, wait to be removed and added
//!  nobody has a group, and some have voted for one ─────► say whose directories are to be emptied
//! ```
//! It is never concluded that there is no group because nobody answers: a member that lost its disk while the others are down
//! would form a second one. For the same reason a member that has voted forms none, though nobody has a log: who it voted for may have lost
//! its directory before it had told anybody more, or may yet come back. All of them then say what is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::error::{InitializeError, RaftError};
use parking_lot::Mutex;
use tracing::{error, info};
use weft_transport::{Fabric, Target};
use weft_types::{Name, Role};

use crate::allegiance::Allegiance;
use crate::raft::hello::{Hello, HelloReply, HelloRequest, Standing, standing};
use crate::raft::{DiskId, MemberNode, Types};

/// Between two rounds of questions: what a group's first start waits for at most once its last member is up.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a member has for its answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Why a member takes no part yet; clones say the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<Option<String>>>);

/// A member that finds its way into a group.
pub(crate) struct Forming {
    pub(crate) me: u64,
    pub(crate) allegiance: Allegiance,
    /// As configured, this one too.
    pub(crate) members: BTreeMap<u64, SocketAddr>,
    pub(crate) fabric: Fabric,
    pub(crate) raft: Raft<Types>,
    pub(crate) waiting: Waiting,
}

/// What the others' answers come to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Finding {
    /// Nobody has a group, and everybody answered.
    New(BTreeMap<u64, DiskId>),
    /// Nobody has a group, and everybody answered, but these have voted for one.
    Voted(BTreeSet<u64>),
    /// These did not answer, and nobody has a group.
    Silent(Vec<u64>),
    /// There is a group, and it expects us.
    Expected,
    /// There is a group without us.
    Unknown,
    /// There is a group, and it expects us with the data directory that we lost.
    Lost(DiskId),
}

impl Waiting {
    /// `None`: it takes part.
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// Returns whether that is something new.
    fn say(&self, reason: Option<String>) -> bool {
        let mut said = self.0.lock();
        let new = *said != reason;
        *said = reason;
        new
    }
}

impl Forming {
    /// Runs until this member has a log, its own or the leader's, or is stopped.
    pub(crate) async fn run(self) {
        while let Ok(Standing { formed: false, voted }) = standing(&self.raft).await {
            let mut finding = find(self.allegiance.disk(), &self.ask().await);
            if voted {
                finding = finding.of_one_that_voted(self.me);
            }
            if let Err(reason) = self.act(&finding).await {
                error!(reason, "cannot form the group");
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.waiting.say(None);
    }

    async fn act(&self, finding: &Finding) -> Result<(), String> {
        let reason = match finding {
            Finding::New(disks) if self.members.keys().next() == Some(&self.me) => return self.form(disks).await,
            Finding::New(_) => "no group yet: the member with the lowest id forms it".to_owned(),
            Finding::Voted(voted) => format!(
                "no member has a log, and members {voted:?} have voted for a group of which they never heard again: who formed it has lost its \
                 data directory, or has not told them yet. If this stays so and the group never served, stop members {voted:?}, empty \
                 their data directories, which hold that vote and nothing else, and start them"
            ),
            Finding::Silent(silent) => format!(
                "no group is known, and members {silent:?} do not answer: a first start needs all configured members, so \
                 that a member which lost its disk cannot begin a second group"
            ),
            Finding::Expected => "expected by the group; waiting for its leader".to_owned(),
            Finding::Unknown => format!(
                "there is a group that does not list this member: add it with `weft metadata add {} {}`",
                self.me,
                self.here()
            ),
            Finding::Lost(before) => {
                let me = self.me;
                let reason = format!(
                    "the group expects member {me} with the data directory {before}, and this one is {}: what member {me} \
                     had promised is gone, so it takes no part. Put the directory back, or take the member out and in \
                     again: `weft metadata remove {me}`, then `weft metadata add {me} {}`",
                    self.allegiance.disk(),
                    self.here()
                );
                if self.waiting.say(Some(reason.clone())) {
                    error!("{reason}");
                }
                return Ok(());
            }
        };
        if self.waiting.say(Some(reason.clone())) {
            info!("{reason}");
        }
        Ok(())
    }

    /// Where this member is, as commands take it.
    fn here(&self) -> String {
        self.members.get(&self.me).map_or_else(|| "<address>".to_owned(), SocketAddr::to_string)
    }

    async fn ask(&self) -> BTreeMap<u64, Option<HelloReply>> {
        let others = self.members.iter().filter(|(id, _)| **id != self.me);
        let mut asking = tokio::task::JoinSet::new();
        for (id, addr) in others {
            let name: Name = id.to_string().parse().expect("digits are a name");
            let target = Target { addr: *addr, role: Role::Metadata, name: Some(name) };
            let (id, fabric) = (*id, self.fabric.clone());
            asking.spawn(async move { (id, fabric.call::<Hello>(&target, &HelloRequest, ANSWER_WITHIN).await.ok()) });
        }
        let mut answers = BTreeMap::new();
        while let Some(Ok((id, answer))) = asking.join_next().await {
            answers.insert(id, answer);
        }
        answers
    }

    async fn form(&self, disks: &BTreeMap<u64, DiskId>) -> Result<(), String> {
        let disk = |id: &u64| if *id == self.me { Some(self.allegiance.disk()) } else { disks.get(id).copied() };
        let node = |(id, addr): (&u64, &SocketAddr)| Some((*id, MemberNode { addr: *addr, disk: disk(id)? }));
        let nodes: BTreeMap<u64, MemberNode> = self.members.iter().filter_map(node).collect();
        self.allegiance.found().await?;
        info!(?nodes, "forming a group");
        match self.raft.initialize(nodes).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Finding {
    /// What it is to a member that has voted itself.
    fn of_one_that_voted(self, me: u64) -> Self {
        match self {
            Self::New(_) => Self::Voted(BTreeSet::from([me])),
            Self::Voted(others) => Self::Voted(others.into_iter().chain([me]).collect()),
            other => other,
        }
    }
}

fn find(disk: DiskId, answers: &BTreeMap<u64, Option<HelloReply>>) -> Finding {
    let formed = answers.values().flatten().filter(|answer| answer.formed);
    // One that does not list us may only not have heard yet.
    let mut expects = formed.clone().filter_map(|answer| answer.yours);
    if let Some(expected) = expects.next() {
        let any = expected == disk || expects.any(|other| other == disk);
        return if any { Finding::Expected } else { Finding::Lost(expected) };
    }
    if formed.count() > 0 {
        return Finding::Unknown;
    }
    let silent: Vec<u64> = answers.iter().filter(|(_, answer)| answer.is_none()).map(|(id, _)| *id).collect();
    if !silent.is_empty() {
        return Finding::Silent(silent);
    }
    let voted: BTreeSet<u64> =
        answers.iter().filter(|(_, answer)| answer.is_some_and(|answer| answer.voted)).map(|(id, _)| *id).collect();
    if !voted.is_empty() {
        return Finding::Voted(voted);
    }
    Finding::New(answers.iter().filter_map(|(id, answer)| Some((*id, answer.as_ref()?.disk))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LineageId;

    #[test]
    fn only_members_that_are_all_new_and_all_there_form_a_group() {
        let new = |disk| Some(HelloReply { disk: DiskId(disk), group: None, formed: false, voted: false, yours: None });
        let of =
            |yours| Some(HelloReply { disk: DiskId(9), group: Some(LineageId(5)), formed: true, voted: true, yours });
        let found = |two, three| find(DiskId(1), &BTreeMap::from([(2, two), (3, three)]));
        assert_eq!(found(new(2), new(3)), Finding::New(BTreeMap::from([(2, DiskId(2)), (3, DiskId(3))])));
        assert_eq!(found(new(2), None), Finding::Silent(vec![3]));
        assert_eq!(found(None, None), Finding::Silent(vec![2, 3]));
        assert_eq!(found(of(Some(DiskId(1))), None), Finding::Expected);
        assert_eq!(found(of(None), None), Finding::Unknown);
        assert_eq!(found(of(Some(DiskId(7))), new(3)), Finding::Lost(DiskId(7)));
        assert_eq!(found(of(Some(DiskId(7))), of(Some(DiskId(1)))), Finding::Expected, "one of them is behind");
        let nobody = find(DiskId(1), &BTreeMap::new());
        assert_eq!(nobody, Finding::New(BTreeMap::new()), "a group of one");
    }

    #[test]
    fn members_that_voted_and_have_no_log_form_no_second_group() {
        let answer = |voted| Some(HelloReply { disk: DiskId(2), group: None, formed: false, voted, yours: None });
        let found = |two, three| find(DiskId(1), &BTreeMap::from([(2, two), (3, three)]));
        assert_eq!(found(answer(true), answer(false)), Finding::Voted([2].into()));
        assert_eq!(found(answer(true), answer(false)).of_one_that_voted(1), Finding::Voted([1, 2].into()));
        assert_eq!(found(answer(false), answer(false)).of_one_that_voted(1), Finding::Voted([1].into()));
        assert_eq!(found(answer(true), None), Finding::Silent(vec![3]), "it may have the group's log");
    }
}
