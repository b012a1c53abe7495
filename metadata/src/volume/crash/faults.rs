//! What a device may do to a volume that is at rest, one thing at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::SECTOR_BYTES;
use super::{Content, CrashFile, CrashVolume, Names, Power};

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// One bit of a file is another.
    BitFlip,
    /// A few are.
    BitFlips,
    /// A sector holds anything.
    Garbage,
    /// The last write of a sector was acknowledged and not done.
    LostWrite,
    /// It was done up to somewhere inside the sector.
    TornSector,
    /// It went to another sector, of any file.
    Misdirected,
    /// A sector is not given back.
    Unreadable,
    /// A file has another length.
    Length,
    /// A bit of a file's name is another.
    Name,
    /// A file is gone.
    Removed,
    /// Two files have each other's names.
    Swapped,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::BitFlip,
        Self::BitFlips,
        Self::Garbage,
        Self::LostWrite,
        Self::TornSector,
        Self::Misdirected,
        Self::Unreadable,
        Self::Length,
        Self::Name,
        Self::Removed,
        Self::Swapped,
    ];
}

/// What was done.
#[derive(Debug)]
pub(crate) struct Damage {
    /// To which file.
    pub(crate) file: String,
    /// Where in it, as far as that says anything.
    pub(crate) offset: usize,
    /// The write that was acknowledged and not done as it should have been.
    pub(crate) unwritten: Option<u64>,
}

impl CrashVolume {
    /// Writes so far.
    pub(crate) fn writes(&self) -> u64 {
        self.power.writes.load(Ordering::Relaxed)
    }

    /// Whether all that was written to files whose names begin so is durable, and so is every name.
    pub(crate) fn is_settled(&self, prefix: &str) -> bool {
        let names = self.names.lock();
        let mut files = names.current.iter().filter(|(name, _)| name.starts_with(prefix));
        names.pending.is_empty() && files.all(|(_, file)| file.content.lock().dirty.is_empty())
    }

    /// A copy of which everything is durable.
    pub(crate) fn settled(&self) -> Self {
        let power = Arc::new(Power::default());
        let copy = |(name, file): (&String, &Arc<CrashFile>)| (name.clone(), file.settled(power.clone()));
        let files: BTreeMap<_, _> = self.names.lock().current.iter().map(copy).collect();
        Self { names: Mutex::new(Names::settled(files)), power }
    }

    /// A copy of which everything is durable, with one bit of one file flipped.
    pub(crate) fn with_bit_flipped(&self, name: &str, bit: usize) -> Self {
        let copy = self.settled();
        copy.change(name, |content| content.current[bit / 8] ^= 1 << (bit % 8));
        copy
    }

    /// Bytes of a file up to the last that is not zero.
    pub(crate) fn written(&self, name: &str) -> usize {
        let names = self.names.lock();
        let content = names.current[name].content.lock();
        content.current.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// Damages a file where it lies, under whoever has it open.
    pub(crate) fn flip_bit_here(&self, name: &str, bit: usize) {
        self.change(name, |content| content.current[bit / 8] ^= 1 << (bit % 8));
    }

    /// A settled copy with one thing wrong.
    pub(crate) fn with(&self, fault: Fault, random: &mut impl Rng) -> (Self, Damage) {
        let copy = self.settled();
        let names: Vec<String> = copy.names.lock().current.keys().cloned().collect();
        let file = names.choose(random).expect("a log has files").clone();
        let damage = copy.damage(fault, file, &names, random);
        (copy, damage)
    }

    fn damage(&self, fault: Fault, file: String, names: &[String], random: &mut impl Rng) -> Damage {
        let mut damage = Damage { file: file.clone(), offset: 0, unwritten: None };
        match fault {
            Fault::BitFlip | Fault::BitFlips => {
                // Mostly where something is written.
                let len = self.len(&file);
                let end = if random.random_bool(0.9) { self.written(&file) } else { len };
                let first = random.random_range(0..end);
                let flips = if fault == Fault::BitFlip { 1 } else { random.random_range(2..5) };
                damage.offset = first;
                for flip in 0..flips {
                    let at = if flip == 0 { first } else { (first + random.random_range(0..16)).min(len - 1) };
                    self.flip_bit_here(&file, at * 8 + random.random_range(0..8));
                }
            }
            Fault::Garbage => {
                let sector = random.random_range(0..self.len(&file).div_ceil(SECTOR_BYTES));
                damage.offset = sector * SECTOR_BYTES;
                self.change(&file, |content| random.fill(content.sector(sector)));
            }
            Fault::LostWrite | Fault::TornSector | Fault::Misdirected => {
                let (sector, kept) = self.unwrite(&mut damage, random);
                match fault {
                    Fault::TornSector => self.change(&file, |content| {
                        let done = random.random_range(1..kept.len());
                        content.sector(sector)[..done].copy_from_slice(&kept[..done]);
                    }),
                    Fault::Misdirected => {
                        let other = names.choose(random).expect("a log has files");
                        self.change(other, |content| {
                            // What was written there later is there.
                            let later = |sector: &usize| {
                                content.before.get(sector).is_some_and(|(write, _)| Some(*write) >= damage.unwritten)
                            };
                            let sectors = 0..content.current.len().div_ceil(SECTOR_BYTES);
                            let earlier: Vec<usize> = sectors.filter(|sector| !later(sector)).collect();
                            let Some(sector) = earlier.choose(random) else { return };
                            let there = content.sector(*sector);
                            let len = there.len().min(kept.len());
                            there[..len].copy_from_slice(&kept[..len]);
                        });
                    }
                    _ => {}
                }
            }
            Fault::Unreadable => {
                let sector = random.random_range(0..self.len(&file).div_ceil(SECTOR_BYTES));
                damage.offset = sector * SECTOR_BYTES;
                self.change(&file, |content| content.unreadable = Some(sector));
            }
            Fault::Length => self.change(&file, |content| {
                // Where a record begins, or anywhere.
                let begins = content.current.windows(4).enumerate().filter(|(_, word)| word == b"WFL3");
                let begins: Vec<usize> = begins.map(|(at, _)| at).collect();
                let any = random.random_range(0..content.current.len() + 2 * SECTOR_BYTES);
                let len = begins.choose(random).copied().filter(|_| random.random_bool(0.5)).unwrap_or(any);
                content.current.resize(len, 0);
                damage.offset = len;
            }),
            Fault::Name | Fault::Removed | Fault::Swapped => self.rename_at_rest(fault, &file, names, random),
        }
        damage
    }

    /// Takes back the last write of a sector of the file; returns which sector, and what it held.
    fn unwrite(&self, damage: &mut Damage, random: &mut impl Rng) -> (usize, Vec<u8>) {
        let mut taken = (0, Vec::new());
        self.change(&damage.file.clone(), |content| {
            // Mostly of the latest.
            let mut written: Vec<_> = content.before.iter().map(|(sector, (write, _))| (*write, *sector)).collect();
            written.sort_unstable();
            let few = written.len().saturating_sub(4);
            let among = if random.random_bool(0.5) { &written[few..] } else { &written[..] };
            let (write, sector) = *among.choose(random).expect("every file was written to");
            let before = content.before[&sector].1.clone();
            let place = content.sector(sector);
            taken = (sector, place.to_vec());
            place.copy_from_slice(&before);
            damage.offset = sector * SECTOR_BYTES;
            damage.unwritten = Some(write);
        });
        taken
    }

    fn rename_at_rest(&self, fault: Fault, file: &str, names: &[String], random: &mut impl Rng) {
        let mut held = self.names.lock();
        let found = held.current.remove(file).expect("it was chosen among them");
        match fault {
            Fault::Name => {
                let mut name = file.as_bytes().to_vec();
                let at = random.random_range(0..name.len());
                name[at] ^= 1 << random.random_range(0..7);
                held.current.insert(String::from_utf8_lossy(&name).into_owned(), found);
            }
            Fault::Swapped => {
                let other = names.choose(random).expect("a log has files");
                if let Some(there) = held.current.insert(other.clone(), found) {
                    held.current.insert(file.to_owned(), there);
                }
            }
            _ => {}
        }
        held.durable = held.current.clone();
    }

    fn len(&self, name: &str) -> usize {
        self.names.lock().current[name].content.lock().current.len()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Content)) {
        let names = self.names.lock();
        let mut content = names.current[name].content.lock();
        change(&mut content);
        content.durable = content.current.clone();
    }
}

impl CrashFile {
    fn settled(&self, power: Arc<Power>) -> Arc<Self> {
        let content = self.content.lock();
        let (current, before) = (content.current.clone(), content.before.clone());
        let content = Content { durable: current.clone(), current, before, ..Content::default() };
        Arc::new(Self { content: Mutex::new(content), power })
    }
}

impl Content {
    fn sector(&mut self, sector: usize) -> &mut [u8] {
        let end = ((sector + 1) * SECTOR_BYTES).min(self.current.len());
        &mut self.current[sector * SECTOR_BYTES..end]
    }

    /// To be called before the sectors are written.
    pub(super) fn note(&mut self, write: u64, sectors: std::ops::Range<usize>) {
        for sector in sectors {
            let before = self.sector(sector).to_vec();
            self.before.insert(sector, (write, before));
        }
    }
}
