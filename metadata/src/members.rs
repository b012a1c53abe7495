//! Changing the group by command. A member comes as a learner, takes over what it lacks, and gets its vote once it has; one
//! that takes another's place does so in one step, so that the number of voters never changes on the way.
//!
//! Never by itself: that a member is silent says nothing about whether it will come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::sync::Mutex;
use tracing::{debug, info};
use weft_metadata_proto::v1::{ChangeMembersRequest, MemberStatus, MembersChange, NewMember, Reply};
use weft_transport::{Fabric, Target};
use weft_types::{MemberId, Name, Role};

use crate::allegiance::Allegiance;
use crate::group::Group;
use crate::handover::{self, HandoverError};
use crate::raft::hello::{Hello, HelloReply, HelloRequest};
use crate::raft::{MemberNode, RaftMetrics};

/// A learner that lacks no more entries than this gets its vote: what a busy group writes while the vote is agreed on.
const BEHIND_MAX: u64 = 1_000;

/// Longest that a change waits to be committed.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a member has for its answer: less than whoever asked for the change waits for theirs. One that does not answer is
/// asked again with the next call.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// The group, to be changed. One change at a time.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    group: Group,
    fabric: Fabric,
    allegiance: Allegiance,
    changing: Arc<Mutex<()>>,
}

/// Why a change was not made.
enum Refused {
    /// It makes no sense, or would do harm; in words.
    Because(String),
    /// This member does not lead, or not any more.
    NotLeader,
    /// A member that must answer does not, yet.
    Silent(MemberId),
}

type Changed = Result<MembersChange, Refused>;

impl Members {
    pub(crate) fn new(group: Group, fabric: Fabric, allegiance: Allegiance) -> Self {
        Self { group, fabric, allegiance, changing: Arc::default() }
    }

    /// Makes a change, or as much of it as can be made now. Goes on to its end once begun, whoever asked.
    pub(crate) async fn change(&self, request: ChangeMembersRequest) -> Reply<MembersChange> {
        let members = self.clone();
        let changing = tokio::spawn(async move {
            let _one = members.changing.lock().await;
            members.advance(request).await
        });
        match changing.await {
            Ok(Ok(change)) => Reply::Done(change),
            Ok(Err(Refused::Because(reason))) => Reply::Refused(reason),
            Ok(Err(Refused::NotLeader)) => Reply::NotLeader { leader: self.other_leader() },
            Ok(Err(Refused::Silent(id))) => Reply::Done(MembersChange::Silent { id }),
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    /// Hands leadership over.
    pub(crate) async fn transfer(&self, to: Option<u64>) -> Reply<MemberId> {
        let members = self.clone();
        let transferring = tokio::spawn(async move {
            let _one = members.changing.lock().await;
            handover::hand_over(&members.group, &members.fabric, to).await
        });
        match transferring.await {
            Ok(Ok(leader)) => Reply::Done(MemberId::new(leader)),
            Ok(Err(HandoverError::NotLeader)) => Reply::NotLeader { leader: self.other_leader() },
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    fn other_leader(&self) -> Option<std::net::SocketAddr> {
        self.group.leader().filter(|leader| *leader != self.group.me).and_then(|leader| self.group.addr(leader))
    }

    async fn advance(&self, request: ChangeMembersRequest) -> Changed {
        if self.group.leadership().is_none() {
            return Err(Refused::NotLeader);
        }
        self.finish().await?;
        let remove = request.remove.map(MemberId::get);
        match request.add {
            Some(new) => self.add(new, remove, request.force).await,
            None => match remove {
                Some(id) => self.remove(id, request.force).await,
                None => because("nothing to change: a member to add or one to remove is wanted"),
            },
        }
    }

    /// A chore of the leader: ends what an earlier one began, should nobody ask for it again. Not while a change is made here.
    pub(crate) async fn finish_what_was_left(&self) {
        if !is_half_made(&self.group.metrics()) {
            return;
        }
        let Ok(_one) = self.changing.try_lock() else { return };
        if let Err(Refused::Because(reason)) = self.finish().await {
            debug!(reason, "a change of members stays half made; its end will be tried again");
        }
    }

    /// Ends a change that an earlier leader began. Until then the group needs a majority of the former voters and one of the
    /// new: it is not done, whatever the list of voters says, and openraft leaves it so.
    async fn finish(&self) -> Result<(), Refused> {
        let metrics = self.group.metrics();
        let configs = metrics.membership_config.membership().get_joint_config();
        let [_former, .., voters] = &configs[..] else { return Ok(()) };
        info!(?voters, "a change of members is half made: it is ended first");
        self.commit(ChangeMembers::ReplaceAllVoters(voters.clone()), true).await
    }

    async fn add(&self, new: NewMember, replaced: Option<u64>, force: bool) -> Changed {
        let id = new.id.get();
        let metrics = self.group.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        match membership.get_node(&id) {
            None => {
                let node = self.meet(id, new).await?;
                info!(member = id, addr = %node.addr, disk = %node.disk, "a member comes, as a learner");
                self.commit(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true).await?;
                return Ok(MembersChange::CatchingUp { behind: behind(&metrics, 0) });
            }
            Some(known) => {
                let disk = self.hello(id, new.addr).await?.disk;
                if disk != known.disk {
                    let (addr, known) = (new.addr, known.disk);
                    return because(format!(
                        "member {id} at {addr} has the data directory {disk}, and the group expects {known}: one that lost \
                         its directory is removed first, then added: `weft metadata remove {id}`, then \
                         `weft metadata add {id} {addr}`"
                    ));
                }
                if known.addr != new.addr {
                    info!(member = id, from = %known.addr, to = %new.addr, "a member has moved");
                    let moved = MemberNode { addr: new.addr, disk };
                    self.commit(ChangeMembers::SetNodes(BTreeMap::from([(id, moved)])), true).await?;
                }
            }
        }
        let gone = replaced.is_none_or(|replaced| membership.get_node(&replaced).is_none());
        if !new.voter || (voters.contains(&id) && gone) {
            return Ok(self.done());
        }
        let matched = metrics.replication.as_ref().and_then(|progress| progress.get(&id).copied().flatten());
        let has = matched.map_or(0, |id| id.index);
        let lacks_snapshot = has < metrics.purged.map_or(0, |id| id.index);
        let behind = behind(&metrics, has);
        if !voters.contains(&id) && (matched.is_none() || lacks_snapshot || behind > BEHIND_MAX) {
            return Ok(MembersChange::CatchingUp { behind: behind.max(1) });
        }
        let Some(replaced) = replaced else {
            info!(member = id, "a member gets its vote");
            self.commit(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
            return Ok(self.done());
        };
        self.step_down_for(replaced).await?;
        let then: BTreeSet<u64> = voters.iter().copied().filter(|voter| *voter != replaced).chain([id]).collect();
        self.check_majority(&then, force).await?;
        info!(member = id, replaced, "a member takes another's place");
        self.commit(ChangeMembers::ReplaceAllVoters(then), false).await?;
        self.forget(replaced).await
    }

    async fn remove(&self, id: u64, force: bool) -> Changed {
        let metrics = self.group.metrics();
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id).is_none() {
            return Ok(self.done());
        }
        let then: BTreeSet<u64> = membership.voter_ids().filter(|voter| *voter != id).collect();
        if membership.voter_ids().any(|voter| voter == id) {
            if then.is_empty() {
                return because(format!("member {id} is the only one that votes: add another first"));
            }
            self.step_down_for(id).await?;
            self.check_majority(&then, force).await?;
            info!(member = id, "a member goes");
            self.commit(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await?;
        }
        self.forget(id).await
    }

    /// A leader that is to go hands over first, and leaves the rest to whoever leads then.
    async fn step_down_for(&self, id: u64) -> Result<(), Refused> {
        if id != self.group.me {
            return Ok(());
        }
        match handover::hand_over(&self.group, &self.fabric, None).await {
            Ok(_) | Err(HandoverError::NotLeader) => Err(Refused::NotLeader),
            Err(error) => because(format!("the leader is to go, and cannot hand over: {error}")),
        }
    }

    /// Takes one that votes no more off the list.
    async fn forget(&self, id: u64) -> Changed {
        let listed = self.group.metrics().membership_config.membership().get_node(&id).is_some();
        if listed {
            self.commit(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await?;
        }
        Ok(self.done())
    }

    /// Those who vote from now on must be able to.
    async fn check_majority(&self, voters: &BTreeSet<u64>, force: bool) -> Result<(), Refused> {
        if force {
            return Ok(());
        }
        let metrics = self.group.metrics();
        let nodes = voters
            .iter()
            .filter(|id| **id != self.group.me)
            .filter_map(|id| Some((*id, metrics.membership_config.membership().get_node(id)?.addr)));
        let mut asking = tokio::task::JoinSet::new();
        for (id, addr) in nodes {
            let members = self.clone();
            asking.spawn(async move { members.hello(id, addr).await.is_ok() });
        }
        let mut answer = usize::from(voters.contains(&self.group.me));
        while let Some(answered) = asking.join_next().await {
            answer += usize::from(answered.unwrap_or(false));
        }
        if answer > voters.len() / 2 {
            return Ok(());
        }
        because(format!(
            "of the voters that stay, {voters:?}, only {answer} answer: the group would have no majority. Start them, add \
             another first, or say --force"
        ))
    }

    /// A member to be: it is who it is said to be, and what it has promised, if anything, it has promised to this group. What it
    /// has of a log that the group has not, Raft cuts.
    async fn meet(&self, id: u64, new: NewMember) -> Result<MemberNode, Refused> {
        let hello = self.hello(id, new.addr).await?;
        match (hello.group, self.allegiance.group().unwrap_or_default()) {
            (Some(theirs), ours) if ours != theirs => because(format!(
                "member {id} at {} belongs to another group, {theirs}, and this one is {ours}: move what it has away, and \
                 start it with an empty data directory",
                new.addr
            )),
            _ => Ok(MemberNode { addr: new.addr, disk: hello.disk }),
        }
    }

    async fn hello(&self, id: u64, addr: std::net::SocketAddr) -> Result<HelloReply, Refused> {
        let name: Name = id.to_string().parse().expect("digits are a name");
        let target = Target { addr, role: Role::Metadata, name: Some(name) };
        let answer = self.fabric.call::<Hello>(&target, &HelloRequest, ANSWER_WITHIN).await;
        answer.map_err(|error| {
            debug!(member = id, %addr, %error, "a member does not answer");
            Refused::Silent(MemberId::new(id))
        })
    }

    async fn commit(&self, change: ChangeMembers<u64, MemberNode>, retain: bool) -> Result<(), Refused> {
        use openraft::error::{ClientWriteError, RaftError};
        let changing = self.group.raft.change_membership(change, retain);
        match tokio::time::timeout(COMMIT_WAIT_MAX, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(Refused::NotLeader),
            Ok(Err(error)) => because(error.to_string()),
            Err(_) => because(format!("not committed within {COMMIT_WAIT_MAX:?}: the group has no majority")),
        }
    }

    fn done(&self) -> MembersChange {
        MembersChange::Done { members: self.list() }
    }

    fn list(&self) -> Vec<MemberStatus> {
        crate::service::status::members(&self.group.metrics())
    }
}

/// Two sets of voters are in force: the former and the new.
pub(crate) fn is_half_made(metrics: &RaftMetrics) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

/// Entries that a member lacks which has the log up to `has`. What a snapshot brings counts as none: indices may have leapt.
fn behind(metrics: &RaftMetrics, has: u64) -> u64 {
    let kept = metrics.purged.map_or(0, |id| id.index);
    metrics.last_log_index.unwrap_or(0).saturating_sub(has.max(kept))
}

fn because<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Because(reason.into()))
}
