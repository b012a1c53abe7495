//! The log against power cuts and bit rot, on a volume that does both: what was acknowledged is there, or the log
//! refuses to open. Never anything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{LogSettings, LogStore, recovery, segment, vote};
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::raft::{CommandBytes, Entry, LogId, Vote, log_id};
use crate::volume::crash::CrashVolume;
use crate::volume::{Volume, remove_temporaries};
use openraft::RaftLogReader;

/// Small, so that a few entries fill a segment and most reads go to disk.
const SETTINGS: LogSettings = LogSettings { segment_bytes: 4096, tail_bytes_max: 1024 };

fn open(volume: &Arc<CrashVolume>) -> Result<LogStore, StoreError> {
    remove_temporaries(&**volume).unwrap();
    LogStore::open(volume.clone(), SETTINGS, Metrics::register(&prometheus::Registry::new()).unwrap())
}

/// What the log should say.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, (LogId, Bytes)>,
}

#[derive(Clone, Debug)]
enum Step {
    Vote(Vote),
    Append(Vec<Entry>),
    Truncate(LogId),
    Purge(LogId),
}

impl Model {
    async fn read(log: &mut LogStore) -> Self {
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

    fn after(&self, step: &Step) -> Self {
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
    fn during(&self, step: &Step) -> Vec<Self> {
        match step {
            Step::Append(entries) => {
                (0..=entries.len()).map(|kept| self.after(&Step::Append(entries[..kept].to_vec()))).collect()
            }
            step => vec![self.clone(), self.after(step)],
        }
    }

    fn step(&self, term: u64, random: &mut ChaCha8Rng) -> Step {
        let next = self.last().map_or(0, |id| id.index + 1);
        let first = self.purged.map_or(0, |id| id.index + 1);
        match random.random_range(0..10) {
            0 => Step::Vote(Vote::new(term, random.random_range(1..4))),
            1 if next > first + 1 => Step::Truncate(self.entries[&random.random_range(first..next)].0),
            2 if next > first + 1 => Step::Purge(self.entries[&random.random_range(first..next)].0),
            3 if random.random_bool(0.2) => Step::Purge(log_id(term, 1, next + 3)),
            _ => {
                let entry = |index| {
                    let mut payload = vec![0; random.random_range(0..1500)];
                    random.fill(&mut payload[..]);
                    Entry {
                        log_id: log_id(term, 1, index),
                        payload: EntryPayload::Normal(CommandBytes(payload.into())),
                    }
                };
                let mut entry = entry;
                let count = 3;
                Step::Append((next..next + count).map(&mut entry).collect())
            }
        }
    }
}

async fn perform(log: &mut LogStore, step: &Step) -> bool {
    match step.clone() {
        Step::Vote(vote) => log.save_vote(&vote).await.is_ok(),
        Step::Append(entries) => log.blocking_append(entries).await.is_ok(),
        Step::Truncate(since) => log.truncate(since).await.is_ok(),
        Step::Purge(upto) => log.purge(upto).await.is_ok(),
    }
}

/// Works, loses power at a random moment, recovers, compares, and goes on, a few times over.
async fn crashes(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut volume = Arc::new(CrashVolume::default());
    if lying {
        volume.lie_about_syncs();
    }
    let mut model = Model::default();
    for term in 1..=12 {
        let mut log = open(&volume).map_err(|error| format!("seed {seed}, crash {term}: {error}"))?;
        let found = Model::read(&mut log).await;
        if found != model {
            return Err(format!("seed {seed}: opened twice, found {found:?} then {model:?}"));
        }
        // A member votes before it writes.
        let mut step = Step::Vote(Vote::new(term, 1));
        volume.cut_power_after(random.random_range(0..60));
        while perform(&mut log, &step).await {
            model = model.after(&step);
            step = model.step(term, &mut random);
        }
        drop(log);
        volume = Arc::new(volume.after_crash(&mut random));
        let mut log = open(&volume).map_err(|error| format!("seed {seed}, crash {term} in {step:?}: {error}"))?;
        let found = Model::read(&mut log).await;
        if !model.during(&step).contains(&found) {
            return Err(format!("seed {seed}, crash {term} in {step:?}: had {model:?}, found {found:?}"));
        }
        model = found;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_survives_any_power_cut() {
    for seed in 0..150 {
        if let Err(violation) = crashes(seed, false).await {
            panic!("{violation}");
        }
    }
}

#[tokio::test]
async fn the_power_cut_test_notices_a_device_that_lies_about_syncing() {
    let mut noticed = 0;
    for seed in 0..10 {
        noticed += u32::from(crashes(seed, true).await.is_err());
    }
    assert!(noticed >= 9, "of 10 runs without syncs only {noticed} were noticed");
}

/// A log of three segments with something of every kind in it.
async fn sample() -> Arc<CrashVolume> {
    let volume = Arc::new(CrashVolume::default());
    let mut log = open(&volume).unwrap();
    log.save_vote(&Vote::new_committed(1, 2)).await.unwrap();
    let entry = |index: u64, term| {
        let payload = Bytes::from(vec![u8::try_from(index + 1).unwrap(); 700]);
        Entry { log_id: log_id(term, 2, index), payload: EntryPayload::Normal(CommandBytes(payload)) }
    };
    for index in 0..8 {
        log.blocking_append([entry(index, 1)]).await.unwrap();
    }
    log.truncate(log_id(1, 2, 6)).await.unwrap();
    log.blocking_append([entry(6, 2), entry(7, 2), entry(8, 2)]).await.unwrap();
    log.purge(log_id(1, 2, 2)).await.unwrap();
    volume
}

#[tokio::test]
async fn no_flipped_bit_passes() {
    let volume = sample().await;
    let numbers = segment::numbers(&*volume).unwrap();
    assert_eq!(numbers.len(), 3);
    for name in numbers.iter().copied().map(segment::name).chain([vote::NAME.to_owned()]) {
        // Every bit of the first and last bytes of each file, and a coprime stride through the rest.
        let bits = volume.written(&name) * 8;
        for bit in (0..bits).filter(|bit| *bit < 2048 || *bit + 2048 >= bits || bit % 13 == 0) {
            let flipped = volume.with_bit_flipped(&name, bit);
            let opened = if name == vote::NAME {
                vote::load(&flipped).map(drop)
            } else {
                recovery::recover(&flipped, 0, &mut |_| Ok(())).map(drop)
            };
            let Err(StoreError::Damaged { file, .. }) = opened else {
                panic!("bit {bit} of {name} was flipped, and opening gave {opened:?}");
            };
            assert_eq!(file, name);
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    for number in [1, 2] {
        let volume = sample().await;
        let name = segment::name(number);
        volume.remove(&name).unwrap();
        let error = open(&volume).unwrap_err();
        assert!(matches!(&error, StoreError::Missing { file } if *file == name), "{error}");
    }
    let volume = sample().await;
    volume.remove(vote::NAME).unwrap();
    assert!(matches!(open(&volume), Err(StoreError::Missing { file }) if file == vote::NAME));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let volume = Arc::new(CrashVolume::default());
    let mut log = open(&volume).unwrap();
    volume.cut_power_after(0);
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err());
    volume.cut_power_after(100);
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err(), "the device came back, the promise did not");
}
