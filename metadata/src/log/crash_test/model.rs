//! What a log should say, and what is done to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, RaftLogReader};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::log::LogStore;
use crate::raft::{CommandBytes, Entry, LogId, Vote, log_id};

/// What the log should say.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Model {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, (LogId, Bytes)>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Vote(Vote),
    Append(Vec<Entry>),
    Truncate(LogId),
    Purge(LogId),
}

impl Step {
    pub(super) fn is_vote(&self) -> bool {
        matches!(self, Self::Vote(_))
    }
}

impl Model {
    pub(super) async fn read(log: &mut LogStore) -> Self {
        let state = log.get_log_state().await.unwrap();
        let entries = log.try_get_log_entries(..).await.unwrap();
        let keyed = entries.into_iter().map(|entry| {
            let EntryPayload::Normal(command) = entry.payload else { panic!("only commands were written") };
            (entry.log_id.index, (entry.log_id, command.0))
        });
        let model =
            Self { vote: log.read_vote().await.unwrap(), purged: state.last_purged_log_id, entries: keyed.collect() };
        assert_eq!(model.last(), state.last_log_id);
        model
    }

    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|(id, _)| *id).or(self.purged)
    }

    pub(super) fn same_log(&self, other: &Self) -> bool {
        self.purged == other.purged && self.entries == other.entries
    }

    pub(super) fn after(&self, step: &Step) -> Self {
        let mut model = self.clone();
        match step {
            Step::Vote(vote) => model.vote = Some(*vote),
            Step::Append(entries) => {
                for entry in entries {
                    let EntryPayload::Normal(command) = &entry.payload else { unreachable!() };
                    model.entries.insert(entry.log_id.index, (entry.log_id, command.0.clone()));
                }
            }
            Step::Truncate(since) => drop(model.entries.split_off(&since.index)),
            Step::Purge(upto) => {
                model.entries = model.entries.split_off(&(upto.index + 1));
                model.purged = Some(*upto);
            }
        }
        model
    }

    /// States that a crash in the middle of `step` may leave.
    pub(super) fn during(&self, step: &Step) -> Vec<Self> {
        match step {
            Step::Append(entries) => {
                (0..=entries.len()).map(|kept| self.after(&Step::Append(entries[..kept].to_vec()))).collect()
            }
            step => vec![self.clone(), self.after(step)],
        }
    }

    pub(super) fn step(&self, term: u64, random: &mut ChaCha8Rng) -> Step {
        let next = self.last().map_or(0, |id| id.index + 1);
        let first = self.purged.map_or(0, |id| id.index + 1);
        match random.random_range(0..10) {
            0 => Step::Vote(Vote::new(term, random.random_range(1..4))),
            1 if next > first + 1 => Step::Truncate(self.entries[&random.random_range(first..next)].0),
            2 if next > first + 1 => Step::Purge(self.entries[&random.random_range(first..next)].0),
            3 if random.random_bool(0.2) => Step::Purge(log_id(term, 1, next + 3)),
            _ => Step::Append((next..next + 3).map(|index| entry(term, index, random)).collect()),
        }
    }
}

/// An entry of any length up to three sectors; every third is of one byte throughout, zero mostly.
fn entry(term: u64, index: u64, random: &mut ChaCha8Rng) -> Entry {
    let mut payload = vec![0; random.random_range(0..1500)];
    match random.random_range(0..6) {
        0 => {}
        1 => payload.fill(random.random_range(0..2)),
        _ => random.fill(&mut payload[..]),
    }
    Entry { log_id: log_id(term, 1, index), payload: EntryPayload::Normal(CommandBytes(payload.into())) }
}

pub(super) async fn perform(log: &mut LogStore, step: &Step) -> bool {
    match step.clone() {
        Step::Vote(vote) => log.save_vote(&vote).await.is_ok(),
        Step::Append(entries) => log.blocking_append(entries).await.is_ok(),
        Step::Truncate(since) => log.truncate(since).await.is_ok(),
        Step::Purge(upto) => log.purge(upto).await.is_ok(),
    }
}
