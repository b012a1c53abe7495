//! The log against power cuts and bit rot, on a volume that does both: what was acknowledged is there, or the log
//! refuses to open. Never anything else.

mod faults;
mod model;

use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::model::{Model, Step, perform};
use super::{LogSettings, LogStore, recovery, segment, vote};
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::raft::{CommandBytes, Entry, Vote, log_id};
use crate::volume::crash::CrashVolume;
use crate::volume::{Volume, remove_temporaries};

/// Small, so that a few entries fill a segment and most reads go to disk.
const SETTINGS: LogSettings = LogSettings { segment_bytes: 4096, tail_bytes_max: 1024 };

fn open(volume: &Arc<CrashVolume>) -> Result<LogStore, StoreError> {
    remove_temporaries(&**volume).unwrap();
    LogStore::open(volume.clone(), SETTINGS, Metrics::register(&prometheus::Registry::new()).unwrap())
}

/// Seeds to run, and whether it is one that is looked at: `WEFT_LOG_SEEDS` of them, 200 if that is not set, or the one in
/// `WEFT_LOG_SEED`.
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment what to run")]
fn seeds() -> (std::ops::Range<u64>, bool) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("WEFT_LOG_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..number("WEFT_LOG_SEEDS").unwrap_or(200), false),
    }
}

/// An entry by number, longer than a sector.
fn entry_of(term: u64, index: u64) -> Entry {
    let payload = Bytes::from(vec![u8::try_from(index + 1).unwrap(); 700]);
    Entry { log_id: log_id(term, 2, index), payload: EntryPayload::Normal(CommandBytes(payload)) }
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
    for seed in seeds().0 {
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
    for index in 0..8 {
        log.blocking_append([entry_of(1, index)]).await.unwrap();
    }
    log.truncate(log_id(1, 2, 6)).await.unwrap();
    log.blocking_append([6, 7, 8].map(|index| entry_of(2, index))).await.unwrap();
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
    // The one that is written to is missed too: the one before says that it is there.
    for number in [1, 2, 3] {
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

#[tokio::test]
async fn who_led_before_a_restart_has_to_be_elected_anew() {
    let volume = Arc::new(CrashVolume::default());
    let mut log = open(&volume).unwrap();
    log.save_vote(&Vote::new_committed(7, 2)).await.unwrap();
    log.close().await;
    let mut log = open(&volume).unwrap();
    log.lead_no_more(1);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(7, 2)), "another's leadership stays");
    log.lead_no_more(2);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(7, 2)), "voted for, and no more");
}
