//! The log on a device that lies: recovered or refused, never wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::model::{Model, Step, perform};
use super::{entry_of, open, seeds};
use crate::error::StoreError;
use crate::raft::{Vote, log_id};
use crate::volume::crash::CrashVolume;
use crate::volume::crash::faults::{Damage, Fault};

/// A log that was written on an honest device.
struct Written {
    volume: Arc<CrashVolume>,
    model: Model,
    /// The last step that changed the log, what was before it, and how many writes were before it.
    last: Option<(Step, Model, u64)>,
}

async fn write(random: &mut ChaCha8Rng) -> Written {
    let volume = Arc::new(CrashVolume::default());
    let mut log = open(&volume).unwrap();
    let (mut model, mut last) = (Model::default(), None);
    let mut step = Step::Vote(Vote::new(1, 1));
    for _ in 0..random.random_range(1..30) {
        let writes = volume.writes();
        assert!(perform(&mut log, &step).await);
        let after = model.after(&step);
        if !step.is_vote() {
            last = Some((step, model, writes));
        }
        model = after;
        step = model.step(1, random);
    }
    Written { volume, model, last }
}

impl Written {
    /// Whether a log found after the damage may say that.
    fn allows(&self, found: &Model, damage: &Damage) -> bool {
        if found.vote != self.model.vote {
            return false;
        }
        // What a device drops of the very last write looks like a crash before it.
        let excused = self.last.as_ref().filter(|(_, _, writes)| damage.unwritten.is_some_and(|write| write > *writes));
        let mut states = excused.map_or_else(Vec::new, |(step, before, _)| before.during(step));
        states.push(self.model.clone());
        states.iter().any(|state| state.same_log(found))
    }
}

/// Every refusal says where and what to do.
fn check_refusal(error: &StoreError, seed: u64) {
    let text = error.to_string();
    assert!(text.contains("log-") || text.contains("vote"), "seed {seed}: no file named: {text}");
    assert!(text.contains("When a member refuses to start"), "seed {seed}: no remedy: {text}");
    assert!(matches!(error, StoreError::Missing { .. }) || text.contains("byte"), "seed {seed}: no offset: {text}");
}

#[tokio::test]
async fn a_device_that_lies_is_found_out_or_did_no_harm() {
    let mut outcomes: BTreeMap<Fault, (u32, u32)> = BTreeMap::new();
    let (seeds, one) = seeds();
    for seed in seeds {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let written = write(&mut random).await;
        for fault in Fault::ALL {
            let (volume, damage) = written.volume.with(fault, &mut random);
            let outcome = outcomes.entry(fault).or_default();
            match open(&Arc::new(volume)) {
                Ok(mut log) => {
                    outcome.0 += 1;
                    let found = Model::read(&mut log).await;
                    let had = &written.model;
                    assert!(
                        written.allows(&found, &damage),
                        "seed {seed}, {fault:?} {damage:?}: {had:?}, found {found:?}"
                    );
                }
                Err(error) => {
                    outcome.1 += 1;
                    check_refusal(&error, seed);
                    if fault == Fault::Unreadable {
                        let expected = matches!(&error, StoreError::Unreadable { file, offset, .. }
                            if *file == damage.file && *offset == damage.offset as u64);
                        assert!(expected, "seed {seed}: {damage:?}, and {error}");
                    }
                }
            }
        }
    }
    if !one {
        let quiet = outcomes.iter().find(|(_, (_, refused))| *refused == 0);
        assert_eq!(quiet, None, "a fault that is never found out: {outcomes:?}");
    }
}

/// A device that lies about syncing for a while, and then loses power.
#[tokio::test]
async fn what_an_honest_sync_acknowledged_survives_lies_and_a_power_cut_or_is_missed() {
    let (mut recovered, mut refused) = (0, 0);
    let (seeds, one) = seeds();
    for seed in seeds {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let volume = Arc::new(CrashVolume::default());
        let mut log = open(&volume).unwrap();
        // What may be found: every state since the last that was durable.
        let (mut logs, mut votes) = (vec![Model::default()], vec![None]);
        let (mut model, mut step) = (Model::default(), Step::Vote(Vote::new(1, 1)));
        volume.cut_power_after(random.random_range(0..80));
        loop {
            volume.set_lying(random.random_bool(0.3));
            let done = perform(&mut log, &step).await;
            logs.extend(model.during(&step));
            let after = model.after(&step);
            votes.push(after.vote);
            if !done {
                break;
            }
            model = after;
            if volume.is_settled("log-") {
                logs = vec![model.clone()];
            }
            if volume.is_settled("vote") {
                votes = vec![model.vote];
            }
            step = model.step(1, &mut random);
        }
        drop(log);
        match open(&Arc::new(volume.after_crash(&mut random))) {
            Ok(mut log) => {
                recovered += 1;
                let found = Model::read(&mut log).await;
                assert!(votes.contains(&found.vote), "seed {seed}: votes {votes:?}, found {:?}", found.vote);
                let known = logs.iter().any(|state| state.same_log(&found));
                assert!(known, "seed {seed}: of {} states none is {found:?}; the last was {model:?}", logs.len());
            }
            Err(error) => {
                refused += 1;
                check_refusal(&error, seed);
            }
        }
    }
    assert!(
        one || (recovered > 0 && refused > 0),
        "{recovered} recovered, {refused} refused: one of them was not tried"
    );
}

/// Under a log that is open, too: what is read is right, or is not read.
#[tokio::test]
async fn a_bit_that_flips_under_an_open_log_is_not_read() {
    let volume = Arc::new(CrashVolume::default());
    let mut log = open(&volume).unwrap();
    for index in 0..12 {
        perform(&mut log, &Step::Append(vec![entry_of(1, index)])).await;
    }
    let before = log.try_get_log_entries(0..2).await.unwrap();
    assert_eq!(before[1].log_id, log_id(1, 2, 1));
    let mut noticed = 0;
    for byte in (0..volume.written("log-0000000000000001")).step_by(7) {
        volume.flip_bit_here("log-0000000000000001", byte * 8);
        match log.try_get_log_entries(0..2).await {
            Ok(read) => assert_eq!(read, before, "byte {byte}"),
            Err(_) => noticed += 1,
        }
        volume.flip_bit_here("log-0000000000000001", byte * 8);
    }
    assert!(noticed > 100, "only {noticed} flips were noticed: they were read from memory");
    assert_eq!(log.read_vote().await.unwrap(), None);
}
