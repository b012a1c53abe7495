//! A process that writes to the disk tier is killed, again and again, on the same store: every block that comes back is
//! byte-right, and what was appended a moment ago comes back.
//!
//! Dozens of times here; `make crash` does it thousands of times (`WEFT_CRASH_ROUNDS`).

#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_store::disk::format::{Space, StoreId};
use weft_store::disk::{DiskBlock, DiskOptions, DiskTier, DiskWriter, FileDevice, PageBuffer};
use weft_types::{BlockHash, ByteSize, Checksum};

/// Enough for every stage: a segment is filled every few batches, and every segment is overwritten many times.
const ROUNDS: u64 = 36;

/// Blocks that were acknowledged last, and have to be there: they fit into the segment that is written and the one before.
const RECENT: usize = 4;

fn open(folder: &Path) -> (Arc<DiskTier>, DiskWriter) {
    let options = DiskOptions {
        owner: "n1".parse().unwrap(),
        fresh_id: StoreId([3; 16]),
        size: ByteSize::from_mib(2),
        segment_bytes: Some(ByteSize::from_bytes(256 << 10)),
        rewrite_percent: 25,
    };
    DiskTier::open(Arc::new(FileDevice::open(folder).unwrap()), options, Box::new(|| {})).unwrap()
}

/// Block `number`: from some bytes to ten pages.
fn space(number: u64) -> Space {
    Space { contract: Checksum::from_u64(1), parts: vec![1 + number * 7919 % 40_000] }
}

fn hash(number: u64) -> BlockHash {
    let mut bytes = [0; 32];
    ChaCha8Rng::seed_from_u64(number).fill(&mut bytes);
    BlockHash::from_bytes(bytes)
}

fn data(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(space(number).block_bytes()).unwrap()];
    ChaCha8Rng::seed_from_u64(!number).fill(&mut bytes[..]);
    bytes
}

#[test]
fn every_block_that_comes_back_after_a_kill_is_byte_right() {
    let rounds = std::env::var_os("WEFT_CRASH_ROUNDS");
    let rounds: u64 = rounds.map_or(ROUNDS, |rounds| rounds.to_str().unwrap().parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let (mut next, mut back) = (0, 0);
    for round in 0..rounds {
        let acknowledged = killed(folder.path(), next, &mut dice);
        let (tier, _writer) = open(folder.path());
        let last = acknowledged.unwrap_or(next);
        // Whatever may have been written, and no more than the store has room for.
        for number in last.saturating_sub(300)..last + 300 {
            let mut into = PageBuffer::new(data(number).len());
            let Some(checksum) = tier.read(&hash(number), &space(number), into.bytes_mut()) else { continue };
            let data = data(number);
            assert!(
                into.bytes()[..data.len()] == data && checksum == Checksum::of(&data),
                "round {round}: a wrong byte"
            );
            back += 1;
        }
        for number in (next..last).rev().take(RECENT) {
            assert!(tier.contains(&hash(number)), "round {round}: block {number} was acknowledged, and is gone");
        }
        assert_eq!(tier.stats().corrupt_blocks, 0, "round {round}: a start lists only what is whole");
        next = last + 100;
    }
    assert!(back > rounds, "{back} blocks came back in {rounds} rounds");
}

/// Runs a writer from block `from` on, and kills it in the middle; returns how far it said it had come.
fn killed(folder: &Path, from: u64, dice: &mut ChaCha8Rng) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_writes", "--ignored", "--nocapture"])
        .env("WEFT_TEST_DISK", folder)
        .env("WEFT_TEST_FROM", from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let numbers = |line: String| line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
    let wait = dice.random_range(1..40);
    let mut last = lines.by_ref().filter_map(numbers).take(wait).last();
    // Not to wait for anything, but to hit another place each time.
    std::thread::sleep(Duration::from_micros(dice.random_range(0..2000)));
    child.kill().unwrap();
    child.wait().unwrap();
    last = lines.filter_map(numbers).last().or(last);
    last
}

#[test]
#[ignore = "the process that is killed: started by the test above"]
fn a_process_that_writes() {
    let Some(folder) = std::env::var_os("WEFT_TEST_DISK") else { return };
    let from = std::env::var_os("WEFT_TEST_FROM").unwrap();
    let mut next: u64 = from.to_str().unwrap().parse().unwrap();
    let (tier, mut writer) = open(Path::new(&folder));
    let mut out = std::io::stdout().lock();
    for batch in 1.. {
        let numbers: Vec<_> = (next..next + batch % 5 + 1).collect();
        let data: Vec<_> = numbers.iter().map(|number| (space(*number), data(*number))).collect();
        let blocks: Vec<_> = numbers
            .iter()
            .zip(&data)
            .map(|(number, (space, bytes))| DiskBlock {
                block: hash(*number),
                checksum: Checksum::of(bytes),
                space,
                bytes,
            })
            .collect();
        let done = writer.append(&blocks).unwrap();
        assert_eq!(done.stored, numbers.len());
        next += done.stored as u64;
        // What is read is written again when its segment goes.
        let mut into = PageBuffer::new(40_000);
        tier.read(&hash(next - 1), &space(next - 1), into.bytes_mut()).unwrap();
        writeln!(out, "acknowledged {next}").unwrap();
        out.flush().unwrap();
    }
}
