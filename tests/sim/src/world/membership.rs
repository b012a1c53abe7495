//! The group changes while all else goes on: members are added, removed and replaced by command, one loses its disk and comes
//! back as a new one, and leadership is handed over.
//!
//! One change at a time, as one operator would: asked for until it is done, whoever leads meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use weft_metadata::testing::{Disk, Member};
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::{MembersChange, NewMember};
use weft_types::MemberId;

use super::{CHANGED_WITHIN, Place, World, eventually};

/// How long the operator waits for an answer, and between two.
const DEADLINE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(300);

/// Voters that a group keeps: with fewer it would not outlive what happens to it.
const VOTERS_MIN: usize = 3;

/// Who changes the group, and what is still to be done.
#[derive(Debug)]
pub(super) struct Membership {
    client: MetadataClient,
    steps: VecDeque<Step>,
    /// The first of them is being asked for, until this says that it is done.
    asking: Option<(Arc<AtomicBool>, AbortHandle)>,
}

/// A part of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The member begins with an empty disk, whatever it had.
    Begin(u64),
    /// The group is asked to take one in, to let one go, or both.
    Ask { add: Option<u64>, remove: Option<u64> },
    /// The member is stopped, and its disk is put to another use.
    End(u64),
}

impl Membership {
    pub(super) fn new(client: MetadataClient) -> Self {
        Self { client, steps: VecDeque::new(), asking: None }
    }

    /// What is left to do, in words.
    pub(super) fn left(&self) -> String {
        format!("the group was not changed within {CHANGED_WITHIN:?}: {:?}", self.steps)
    }

    /// Nothing is to be done.
    pub(super) fn is_done(&self) -> bool {
        self.steps.is_empty()
    }
}

impl World {
    /// Begins a change of the group, unless one is under way, or there is no group yet.
    pub(crate) fn change_group(&mut self) {
        if !self.membership.is_done() || !self.has_formed() {
            return;
        }
        let placed = |place| self.seats.iter().filter(move |(_, seat)| seat.place == place).map(|(id, _)| *id);
        let (members, spare): (Vec<u64>, Vec<u64>) = (placed(Place::In).collect(), placed(Place::Out).collect());
        let member = *members.choose(&mut self.random).expect("a group has members");
        let ask = |add, remove| Step::Ask { add, remove };
        let steps = match (self.random.random_range(0..4), spare.first().copied()) {
            (0, Some(new)) => vec![Step::Begin(new), ask(Some(new), None)],
            (1, Some(new)) => vec![Step::Begin(new), ask(Some(new), Some(member)), Step::End(member)],
            (2, _) if members.len() > VOTERS_MIN => vec![ask(None, Some(member)), Step::End(member)],
            _ => vec![Step::Begin(member), ask(None, Some(member)), ask(Some(member), None)],
        };
        self.chronicle.note(format_args!("the group is to change: {steps:?}"));
        self.membership.steps = steps.into();
    }

    /// Goes on with the change that is under way.
    pub(crate) async fn advance(&mut self) {
        while let Some(step) = self.membership.steps.front().copied() {
            match step {
                Step::Begin(id) => {
                    self.crash_member(id).await;
                    let seat = self.seats.get_mut(&id).expect("a member");
                    (seat.disk, seat.place) = (Disk::default(), Place::In);
                    self.start_member(id).await;
                }
                Step::Ask { add, remove } => match &self.membership.asking {
                    None => return self.membership.asking = Some(self.ask(add, remove)),
                    Some((done, _)) if !done.load(Ordering::Relaxed) => return,
                    Some(_) => self.membership.asking = None,
                },
                Step::End(id) => {
                    self.stop_member(id).await;
                    let seat = self.seats.get_mut(&id).expect("a member");
                    (seat.disk, seat.place) = (Disk::default(), Place::Out);
                }
            }
            self.chronicle.note(format_args!("done: {step:?}"));
            self.membership.steps.pop_front();
        }
    }

    /// A leader dies in the midst of a change, and nobody asks for it again. Returns whether the one after it found a change that was half
    /// made; whether that came to an end is told by [`World::ends_changes`].
    pub(crate) async fn abandon_change(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let placed = |place| self.seats.iter().filter(move |(_, seat)| seat.place == place).map(|(id, _)| *id);
        let replaced = placed(Place::In).find(|id| *id != leader);
        let (Some(new), Some(replaced)) = (placed(Place::Out).next(), replaced) else { return false };
        self.membership.steps = [Step::Begin(new), Step::Ask { add: Some(new), remove: Some(replaced) }].into();
        self.advance().await;
        let changing = |world: &Self| {
            let alive = world.seats.iter().filter(|(id, _)| **id != leader).filter_map(|(_, seat)| seat.alive.as_ref());
            alive.filter(|(member, _)| member.is_changing()).count() > 1
        };
        if !eventually(CHANGED_WITHIN, Duration::from_millis(1), || changing(self)).await {
            return false;
        }
        if let Some((_, asking)) = self.membership.asking.take() {
            asking.abort();
        }
        self.membership.steps.clear();
        self.chronicle.note(format_args!("leader {leader} dies in the midst of a change"));
        self.crash_member(leader).await;
        changing(self)
    }

    /// Whether all who vote come to know of no change that is half made. Whoever votes no more may never hear of its end.
    pub(crate) async fn ends_changes(&self) -> bool {
        let alive = |id: &u64| self.seats[id].alive.as_ref().map(|(member, _)| member);
        let ended = || {
            let Some(leader) = self.leader().as_ref().and_then(alive) else { return false };
            !leader.is_changing() && !leader.voters().iter().filter_map(alive).any(Member::is_changing)
        };
        eventually(CHANGED_WITHIN, Duration::from_millis(50), ended).await
    }

    /// A leader that the others do not hear takes in a new member, which follows it, and is deposed before that is agreed on. Returns
    /// whether it came to that; whether the next leader takes the member in is told by [`World::changes_group`].
    pub(crate) async fn strand_newcomer(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(new) = self.seats.iter().find(|(_, seat)| seat.place == Place::Out).map(|(id, _)| *id) else {
            return false;
        };
        let others: Vec<_> = self.member_ids().into_iter().filter(|id| *id != leader).collect();
        self.membership.steps = [Step::Begin(new), Step::Ask { add: Some(new), remove: None }].into();
        for other in &others {
            self.weather.cut(self.seats[&leader].addr, self.seats[other].addr);
            self.weather.cut(self.seats[other].addr, self.seats[&leader].addr);
        }
        self.chronicle
            .note(format_args!("{others:?} hear nothing of leader {leader}, which is to take in member {new}"));
        self.advance().await;
        let standing = |world: &Self, id: &u64| world.seats[id].alive.as_ref().map(|(member, _)| member.standing());
        let followed = || standing(self, &new).is_some_and(|standing| standing.applied > 0);
        if !eventually(CHANGED_WITHIN, Duration::from_millis(1), followed).await {
            return false;
        }
        let deposed = || others.iter().filter_map(|id| standing(self, id)).any(|standing| standing.leads);
        if !eventually(CHANGED_WITHIN, Duration::from_millis(20), deposed).await {
            return false;
        }
        let listed = |id: &u64| self.seats[id].alive.as_ref().is_some_and(|(member, _)| member.lists(new));
        let came_to_nothing = !others.iter().any(listed);
        self.weather.heal();
        came_to_nothing
    }

    /// Whether what was asked for is done.
    pub(crate) async fn changes_group(&self) -> bool {
        let done = || self.membership.asking.as_ref().is_none_or(|(done, _)| done.load(Ordering::Relaxed));
        eventually(CHANGED_WITHIN, Duration::from_millis(50), done).await
    }

    /// Has leadership handed over to one of the members, or to whoever is fit.
    pub(crate) fn hand_over(&mut self) {
        let to = match self.random.random_bool(0.5) {
            true => self.member_ids().choose(&mut self.random).copied().map(MemberId::new),
            false => None,
        };
        let (client, chronicle) = (self.membership.client.clone(), self.chronicle.clone());
        chronicle.note(format_args!("leadership is to go to {to:?}"));
        tokio::spawn(async move {
            match client.transfer_leader(to, DEADLINE).await {
                Ok(leader) => chronicle.note(format_args!("leadership was handed over to {leader}")),
                Err(error) => chronicle.note(format_args!("leadership was not handed over: {error}")),
            }
        });
    }

    fn ask(&self, add: Option<u64>, remove: Option<u64>) -> (Arc<AtomicBool>, AbortHandle) {
        let add = add.map(|id| NewMember { id: MemberId::new(id), addr: self.seats[&id].addr, voter: true });
        let remove = remove.map(MemberId::new);
        let (client, chronicle) = (self.membership.client.clone(), self.chronicle.clone());
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let asking = tokio::spawn(async move {
            loop {
                match client.change_members(add, remove, false, DEADLINE).await {
                    Ok(MembersChange::Done { .. }) => return told.store(true, Ordering::Relaxed),
                    Ok(change) => chronicle.note(format_args!("the group changes: {change:?}")),
                    Err(error) => chronicle.note(format_args!("the group does not change yet: {error}")),
                }
                sleep(PAUSE).await;
            }
        });
        (done, asking.abort_handle())
    }
}
