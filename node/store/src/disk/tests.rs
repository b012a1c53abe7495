//! The tier over a device in memory, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weft_types::{BlockHash, ByteSize, Checksum, NodeId};

use super::device::{Faults, FaultyDevice};
use super::format::{PAGE_BYTES, Space, StoreId};
use super::*;
use crate::{Cleared, LeasedKeys, TierChange};

pub(super) const SEGMENT_BYTES: u64 = 16 * PAGE_BYTES as u64;

pub(super) fn options(segments: u64) -> DiskOptions {
    DiskOptions {
        owner: "n1".parse().unwrap(),
        fresh_id: StoreId([7; 16]),
        size: ByteSize::from_bytes(segments * SEGMENT_BYTES),
        segment_bytes: Some(ByteSize::from_bytes(SEGMENT_BYTES)),
        rewrite_percent: 50,
    }
}

pub(super) fn open(device: &Arc<FaultyDevice>, segments: u64) -> (Arc<DiskTier>, DiskWriter) {
    DiskTier::open(Arc::clone(device) as Arc<dyn Device>, options(segments), Box::new(|| {})).unwrap()
}

/// Blocks of one and a half pages, in two parts.
pub(super) fn space() -> Space {
    Space { contract: Checksum::of(b"model"), parts: vec![5000, 1144] }
}

pub(super) fn hash(number: u8) -> BlockHash {
    let mut bytes = [number; 32];
    // Same first half: a table that compared 16 bytes only would confuse them.
    bytes[..16].fill(9);
    BlockHash::from_bytes(bytes)
}

/// Bytes that follow from the number.
pub(super) fn data(number: u8) -> Vec<u8> {
    (0..6144).map(|at: usize| (at as u8).wrapping_mul(31) ^ number).collect()
}

pub(super) fn append(writer: &mut DiskWriter, numbers: &[u8]) -> Result<Appended, WriteError> {
    let (space, bytes) = (space(), numbers.iter().map(|number| data(*number)).collect::<Vec<_>>());
    let block = |(number, bytes): (&u8, &Vec<u8>)| (hash(*number), Checksum::of(bytes), bytes.clone());
    let blocks: Vec<_> = numbers.iter().zip(&bytes).map(block).collect();
    let blocks: Vec<_> = blocks
        .iter()
        .map(|(block, checksum, bytes)| DiskBlock { block: *block, checksum: *checksum, space: &space, bytes })
        .collect();
    writer.append(&blocks)
}

/// `None` for a miss. Fails the test on a wrong byte.
pub(super) fn read(tier: &DiskTier, number: u8) -> Option<()> {
    let mut into = PageBuffer::new(6144);
    let checksum = tier.read(&hash(number), &space(), into.bytes_mut())?;
    assert_eq!((&into.bytes()[..6144], checksum), (&data(number)[..], Checksum::of(&data(number))), "a wrong byte");
    Some(())
}

fn readable(tier: &DiskTier, numbers: impl IntoIterator<Item = u8>) -> Vec<u8> {
    numbers.into_iter().filter(|number| read(tier, *number).is_some()).collect()
}

fn device() -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(1, Faults::default()))
}

#[test]
fn blocks_are_read_back_after_a_kill_and_after_a_good_end() {
    let device = device();
    let (tier, mut writer) = open(&device, 4);
    assert_eq!(append(&mut writer, &[1, 2, 3, 4, 5]).unwrap(), Appended { stored: 5, present: 0, refused: 0 });
    assert_eq!(append(&mut writer, &[5, 6, 6]).unwrap(), Appended { stored: 1, present: 2, refused: 0 });
    assert_eq!(readable(&tier, 0..8), [1, 2, 3, 4, 5, 6]);
    drop((tier, writer));
    let (tier, mut writer) = open(&device, 4);
    assert_eq!(readable(&tier, 0..8), [1, 2, 3, 4, 5, 6], "not sealed: read whole");
    append(&mut writer, &[7]).unwrap();
    writer.seal().unwrap();
    device.crash();
    let (tier, _) = open(&device, 4);
    assert_eq!(readable(&tier, 0..8), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(tier.stats().corrupt_blocks, 0);
}

#[test]
fn what_is_not_exactly_what_was_asked_for_is_a_miss() {
    let device = device();
    let (tier, mut writer) = open(&device, 4);
    append(&mut writer, &[1]).unwrap();
    let mut into = vec![0; 6144];
    let other_parts = Space { parts: vec![1144, 5000], ..space() };
    let other_size = Space { parts: vec![5000], ..space() };
    assert_eq!(tier.read(&hash(1), &other_size, &mut into), None);
    assert_eq!(tier.read(&hash(1), &space(), &mut into[..6143]), None, "no room for it");
    assert_eq!(tier.read(&hash(1), &space(), &mut into), Some(Checksum::of(&data(1))), "copied, to no page");
    assert_eq!(into, data(1));
    assert_eq!(tier.read(&hash(1), &other_parts, &mut into), None);
    assert_eq!((tier.contains(&hash(1)), tier.stats().corrupt_blocks), (false, 1), "a hash names one layout only");
}

#[test]
fn a_changed_bit_anywhere_costs_its_block_and_no_other() {
    for at in [5, 40, 70, 90, PAGE_BYTES - 3, PAGE_BYTES, PAGE_BYTES + 6143] {
        let device = device();
        let (tier, mut writer) = open(&device, 4);
        append(&mut writer, &[1, 2, 3]).unwrap();
        device.flip(0, (1 + 3) * PAGE_BYTES + at);
        assert_eq!(readable(&tier, 1..4), [1, 3]);
        assert_eq!((tier.contains(&hash(2)), tier.stats().corrupt_blocks), (false, 1));
        drop((tier, writer));
        let (tier, _) = open(&device, 4);
        assert_eq!(readable(&tier, 1..4), [1, 3], "a start passes over it too");
    }
}

#[test]
fn the_oldest_segment_makes_room_and_used_blocks_stay() {
    let device = device();
    let (tier, mut writer) = open(&device, 4);
    // Four blocks of three pages go into a segment of sixteen pages, with its header and footer.
    append(&mut writer, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
    assert_eq!(readable(&tier, [2]), [2]);
    append(&mut writer, &[13]).unwrap();
    let stats = tier.stats();
    assert_eq!((stats.rewritten_blocks, stats.evicted_blocks), (1, 3), "2 was read: it stays");
    assert_eq!(readable(&tier, 1..14), [2, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert!(stats.write_amplification() > 1.5, "{stats:?}: pages of a small block");
    assert_eq!(stats.wear_bytes, stats.written_bytes);
    append(&mut writer, &[14, 15, 16]).unwrap();
    drop((tier, writer));
    let (tier, _) = open(&device, 4);
    assert!(tier.stats().wear_bytes > stats.stored_bytes, "wear is counted over the store's life");
    assert!(readable(&tier, 1..17).contains(&2));
}

#[test]
fn blocks_that_were_written_again_are_not_more_than_their_share() {
    let device = device();
    let (tier, mut writer) = open(&device, 4);
    for number in 0..200 {
        append(&mut writer, &[number]).unwrap();
        readable(&tier, 0..=number);
    }
    let stats = tier.stats();
    assert!(stats.rewritten_blocks > 0 && stats.rewritten_bytes * 2 <= stats.stored_bytes, "{stats:?}");
    assert_eq!(stats.stored_blocks, 200);
    let held = tier.held();
    assert_eq!(held.blocks as u64, stats.stored_blocks - stats.evicted_blocks);
    assert_eq!(held.bytes, 6144 * held.blocks as u64);
}

#[test]
fn changes_lead_to_what_is_held_and_are_announced() {
    let (device, told) = (device(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&told);
    let changed = Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (tier, mut writer) = DiskTier::open(Arc::clone(&device) as Arc<dyn Device>, options(4), changed).unwrap();
    let mut held = std::collections::BTreeSet::new();
    for number in 0..60 {
        append(&mut writer, &[number]).unwrap();
        readable(&tier, [number / 2]);
        tier.remove(&hash(number.saturating_sub(3)));
        for change in tier.take_changes().unwrap() {
            match change {
                TierChange::Stored(block) => assert!(held.insert(block), "stored twice"),
                TierChange::Removed(block) => assert!(held.remove(&block), "removed without being stored"),
            }
        }
    }
    let mut now = std::collections::BTreeSet::new();
    assert_eq!(tier.cut(|block| assert!(now.insert(block))), Some(vec![]));
    assert_eq!(held, now);
    assert!(told.load(Ordering::Relaxed) >= 60);
}

#[test]
fn a_full_file_system_makes_the_tier_smaller() {
    let device = device();
    let (tier, mut writer) = open(&device, 100);
    append(&mut writer, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    device.set_faults(Faults { full: 1000, ..Faults::default() });
    for number in 10..60 {
        append(&mut writer, &[number]).unwrap();
    }
    assert_eq!(tier.held().segments, 2, "three files: two with blocks, and the one that is next");
    assert!(readable(&tier, 50..60).len() > 4);
}

#[test]
fn a_device_that_fails_loses_blocks_and_nothing_else() {
    let device = device();
    let (tier, mut writer) = open(&device, 6);
    append(&mut writer, &[1, 2]).unwrap();
    device.set_faults(Faults { torn: 1000, ..Faults::default() });
    append(&mut writer, &[3]).unwrap_err();
    append(&mut writer, &[3]).unwrap_err();
    device.set_faults(Faults::default());
    append(&mut writer, &[4]).unwrap();
    assert_eq!(readable(&tier, 1..5), [1, 2, 4]);
    device.set_faults(Faults { failed: 1000, ..Faults::default() });
    assert_eq!(readable(&tier, [1]), [], "an unreadable block is dropped");
    device.set_faults(Faults::default());
    assert_eq!(readable(&tier, 1..5), [2, 4]);
    assert!(tier.stats().io_errors >= 3);
}

#[test]
fn a_store_of_another_node_is_left_alone_and_one_of_another_size_made_anew() {
    let device = device();
    let (_, mut writer) = open(&device, 4);
    append(&mut writer, &[1]).unwrap();
    writer.seal().unwrap();
    let theirs: NodeId = "n2".parse().unwrap();
    let foreign =
        DiskOptions { owner: theirs, segment_bytes: Some(ByteSize::from_bytes(2 * SEGMENT_BYTES)), ..options(8) };
    let error = DiskTier::open(Arc::clone(&device) as Arc<dyn Device>, foreign, Box::new(|| {})).unwrap_err();
    assert!(matches!(error, DiskError::Foreign { .. }), "{error}");
    assert_eq!(readable(&open(&device, 4).0, [1]), [1]);
    let larger = DiskOptions { segment_bytes: Some(ByteSize::from_bytes(2 * SEGMENT_BYTES)), ..options(8) };
    let (tier, mut writer) = DiskTier::open(Arc::clone(&device) as Arc<dyn Device>, larger, Box::new(|| {})).unwrap();
    assert_eq!(tier.held().blocks, 0);
    append(&mut writer, &[2]).unwrap();
    assert_eq!(readable(&tier, [2]), [2]);
    let few = DiskTier::open(device, options(3), Box::new(|| {})).unwrap_err();
    assert!(matches!(few, DiskError::Size { .. }), "{few}");
}

#[test]
fn the_index_takes_few_bytes_a_block() {
    let mut index = index::Index::new(64);
    for number in 0..100_000_u32 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let block = BlockHash::from_bytes(bytes);
        index.insert(
            number % 64,
            format::FooterEntry { block, page: number, bytes: 4096, contract: Checksum::from_u64(1) },
        );
    }
    let each = index.memory_bytes() as f64 / index.len() as f64;
    assert!(each < 80.0, "{each} bytes a block");
}

/// As [`hash`], told apart by what the directory keeps of it.
fn listed(number: u8) -> BlockHash {
    let mut bytes = *hash(number).as_bytes();
    bytes[0] = number;
    BlockHash::from_bytes(bytes)
}

fn append_listed(writer: &mut DiskWriter, number: u8) {
    let (space, bytes) = (space(), data(number));
    let block = DiskBlock { block: listed(number), checksum: Checksum::of(&bytes), space: &space, bytes: &bytes };
    assert_eq!(writer.append(&[block]).unwrap().stored, 1);
}

#[test]
fn leased_blocks_outlive_their_segments_up_to_half_of_the_tier() {
    let device = device();
    let (tier, mut writer) = open(&device, 4);
    let leased =
        |numbers: std::ops::Range<u8>| numbers.map(|number| listed(number).index_key()).collect::<LeasedKeys>();
    (0..3).for_each(|number| append_listed(&mut writer, number));
    tier.set_leased(Arc::new(leased(0..2)));
    for number in 3..100 {
        append_listed(&mut writer, number);
        assert!(tier.contains(&listed(0)) && tier.contains(&listed(1)), "gone by block {number}");
    }
    assert!(!tier.contains(&listed(2)));
    let mut into = PageBuffer::new(6144);
    assert_eq!(tier.read(&listed(1), &space(), into.bytes_mut()), Some(Checksum::of(&data(1))));
    tier.set_leased(Arc::new(leased(0..255)));
    for number in 100..200 {
        append_listed(&mut writer, number);
        assert!(tier.contains(&listed(number)), "everything is leased, and there is room still");
    }
}

#[test]
fn clearing_forgets_what_is_asked_for_and_keeps_what_is_to_be_kept() {
    let device = device();
    let (tier, mut writer) = open(&device, 8);
    append(&mut writer, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let contract = space().contract;
    assert_eq!(tier.clear(&[Checksum::from_u64(!0)], |_| false), Cleared::default(), "of another contract");
    assert_eq!(tier.clear(&[contract], |block| *block == hash(3)), Cleared { removed: 7, kept: 1 });
    drop(writer);
    let (tier, _writer) = open(&device, 8);
    assert!(tier.contains(&hash(1)), "forgotten, not erased");
    assert_eq!(tier.clear(&[contract], |_| false).kept, 0, "contracts are known after a start");
    assert_eq!(tier.held().blocks, 0);
}
