//! A device in memory that fails in the ways of real ones, from a seed.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Device;
use crate::disk::format::PAGE_BYTES;

/// How often a call goes wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A write is acknowledged and never happens, not even with a sync.
    pub(crate) lost: u32,
    /// A write lands somewhere else, on other blocks perhaps.
    pub(crate) misdirected: u32,
    /// A write, or a read, changes a bit.
    pub(crate) flipped: u32,
    /// A read or a sync fails.
    pub(crate) failed: u32,
    /// A write ends half way, and fails.
    pub(crate) torn: u32,
    /// A segment cannot be made.
    pub(crate) full: u32,
}

/// Segments in memory. Writes last from the next sync; until then [`FaultyDevice::crash`] loses any pages of them.
#[derive(Debug)]
pub(crate) struct FaultyDevice(Mutex<State>);

#[derive(Debug)]
struct State {
    dice: ChaCha8Rng,
    faults: Faults,
    /// What reads see.
    segments: BTreeMap<u32, Vec<u8>>,
    /// What is left after a crash.
    durable: BTreeMap<u32, Vec<u8>>,
    /// Pages written since the last sync.
    pending: Vec<(u32, usize, Vec<u8>)>,
}

impl FaultyDevice {
    /// An empty one.
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self(Mutex::new(State {
            dice: ChaCha8Rng::seed_from_u64(seed),
            faults,
            segments: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
        }))
    }

    /// The power goes: of what was not synced, some pages are there and some are not.
    pub(crate) fn crash(&self) {
        let state = &mut *self.0.lock();
        for (segment, at, page) in std::mem::take(&mut state.pending) {
            if state.dice.random()
                && let Some(bytes) = state.durable.get_mut(&segment)
            {
                bytes[at..at + PAGE_BYTES].copy_from_slice(&page);
            }
        }
        state.segments = state.durable.clone();
    }

    /// Changes how often it fails.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// Changes a bit of what is stored.
    pub(crate) fn flip(&self, segment: u32, at: usize) {
        let state = &mut *self.0.lock();
        for image in [&mut state.segments, &mut state.durable] {
            if let Some(byte) = image.get_mut(&segment).and_then(|bytes| bytes.get_mut(at)) {
                *byte ^= 4;
            }
        }
    }
}

impl State {
    fn happens(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.dice.random_range(0..1000) < thousandths
    }

    fn flip_bit(&mut self, bytes: &mut [u8]) {
        let at = self.dice.random_range(0..bytes.len());
        bytes[at] ^= 1 << self.dice.random_range(0..8);
    }

    /// Bytes of a segment from `offset` on; an error if there are fewer.
    fn range(&mut self, segment: u32, offset: u64, len: usize) -> io::Result<&mut [u8]> {
        let bytes = self.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.get_mut(start..end).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.range(segment, offset, bytes.len())?.copy_from_slice(bytes);
        let start = usize::try_from(offset).expect("it is in memory");
        for (page, at) in bytes.chunks(PAGE_BYTES).zip((start..).step_by(PAGE_BYTES)) {
            self.pending.push((segment, at, page.to_vec()));
        }
        Ok(())
    }
}

impl Device for FaultyDevice {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(self.0.lock().segments.keys().copied().collect())
    }

    fn create(&self, segment: u32, bytes: u64) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.happens(state.faults.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let bytes = usize::try_from(bytes).expect("small segments");
        state.segments.entry(segment).or_insert_with(|| vec![0; bytes]);
        state.durable.entry(segment).or_insert_with(|| vec![0; bytes]);
        Ok(())
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.segments.remove(&segment);
        state.durable.remove(&segment);
        state.pending.retain(|(other, _, _)| *other != segment);
        Ok(())
    }

    fn bytes(&self, segment: u32) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn read(&self, segment: u32, offset: u64, into: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.happens(state.faults.failed) {
            return Err(io::Error::other("EIO"));
        }
        let mut at = offset;
        for buffer in into {
            assert!(crate::disk::pages::is_aligned(buffer), "direct I/O would refuse this buffer");
            let from = state.range(segment, at, buffer.len())?;
            buffer.copy_from_slice(from);
            at += buffer.len() as u64;
            if state.happens(state.faults.flipped) {
                state.flip_bit(buffer);
            }
        }
        Ok(())
    }

    fn write(&self, segment: u32, offset: u64, from: &mut [IoSlice<'_>]) -> io::Result<()> {
        let state = &mut *self.0.lock();
        assert!(from.iter().all(|buffer| crate::disk::pages::is_aligned(buffer)), "direct I/O would refuse this");
        let mut bytes = from.iter().flat_map(|buffer| buffer.iter().copied()).collect::<Vec<_>>();
        if state.happens(state.faults.torn) {
            let pages = state.dice.random_range(0..bytes.len() / PAGE_BYTES);
            state.write(segment, offset, &bytes[..pages * PAGE_BYTES])?;
            return Err(io::Error::other("EIO"));
        }
        if state.happens(state.faults.lost) {
            return Ok(());
        }
        if state.happens(state.faults.flipped) {
            state.flip_bit(&mut bytes);
        }
        if state.happens(state.faults.misdirected) {
            let page = state.dice.random_range(0..16) * PAGE_BYTES as u64;
            // Beyond the end it is lost.
            drop(state.write(segment, page, &bytes));
            return Ok(());
        }
        state.write(segment, offset, &bytes)
    }

    fn sync(&self, segment: u32) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.happens(state.faults.failed) {
            return Err(io::Error::other("EIO"));
        }
        let (synced, pending) =
            std::mem::take(&mut state.pending).into_iter().partition(|(other, _, _)| *other == segment);
        state.pending = pending;
        for (segment, at, page) in synced {
            if let Some(bytes) = state.durable.get_mut(&segment) {
                bytes[at..at + PAGE_BYTES].copy_from_slice(&page);
            }
        }
        Ok(())
    }

    fn is_direct(&self) -> bool {
        true
    }
}
