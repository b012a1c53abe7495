//! Holder numbers: granted, retired, swept, granted again; never two lives at once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_types::{Generation, HolderGrant, HolderId, HolderKey, Incarnation};

/// One holder number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Number {
    /// Its present life while granted, else the next one's.
    pub(crate) generation: Generation,
    pub(crate) life: Life,
}

/// Where a number is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Life {
    /// Nothing of it is in the index.
    Free,
    /// Somebody's.
    Granted {
        /// Number of the last report applied; 0: none yet.
        reported: u64,
    },
    /// Masked; the sweep has not removed everything yet.
    Retired,
}

/// All numbers ever handed out, and who has which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    numbers: Vec<Number>,
    free: BTreeSet<HolderId>,
    by_key: BTreeMap<HolderKey, HolderId>,
}

impl Numbers {
    /// Takes over what a snapshot says; `grants` are those of its roster. `None`: the two disagree.
    pub(crate) fn restore(numbers: Vec<Number>, grants: &BTreeMap<HolderId, HolderGrant>) -> Option<Self> {
        let with = |wanted: fn(&Life) -> bool| {
            let known = numbers.iter().zip((0..).map(HolderId::new));
            known.filter(move |(number, _)| wanted(&number.life)).map(|(_, holder)| holder)
        };
        if !with(|life| matches!(life, Life::Granted { .. })).eq(grants.keys().copied()) {
            return None;
        }
        let free = with(|life| *life == Life::Free).collect();
        let by_key = grants.iter().map(|(holder, grant)| (grant.key.clone(), *holder)).collect();
        Some(Self { free, by_key, numbers })
    }

    /// For the snapshot.
    pub(crate) fn all(&self) -> &[Number] {
        &self.numbers
    }

    /// How many more can be granted now, with at most `max` in all.
    pub(crate) fn room(&self, max: u32) -> usize {
        (max as usize).saturating_sub(self.numbers.len() - self.free.len())
    }

    /// Grants the lowest free number, else a new one. The caller has looked for room.
    pub(crate) fn grant(&mut self, key: HolderKey, incarnation: Incarnation) -> HolderGrant {
        let holder = self.free.pop_first().unwrap_or_else(|| {
            let next = HolderId::new(u32::try_from(self.numbers.len()).expect("limits keep numbers far below u32"));
            self.numbers.push(Number { generation: Generation::new(1), life: Life::Free });
            next
        });
        let number = &mut self.numbers[holder.get() as usize];
        number.life = Life::Granted { reported: 0 };
        self.by_key.insert(key.clone(), holder);
        HolderGrant { key, holder, generation: number.generation, incarnation }
    }

    /// Ends the life of whatever is granted to keys in this range; returns the numbers, for the index to mask.
    pub(crate) fn retire(&mut self, keys: std::ops::RangeInclusive<HolderKey>) -> Vec<HolderId> {
        let gone: Vec<(HolderKey, HolderId)> =
            self.by_key.range(keys).map(|(key, holder)| (key.clone(), *holder)).collect();
        for (key, holder) in &gone {
            self.by_key.remove(key);
            let number = &mut self.numbers[holder.get() as usize];
            *number = Number { generation: number.generation.next(), life: Life::Retired };
        }
        gone.into_iter().map(|(_, holder)| holder).collect()
    }

    /// Raises every generation, and hands numbers that were never granted here a generation of their own: up to `count` of
    /// them may have been, elsewhere.
    pub(crate) fn leap(&mut self, leap: u32, count: u32) {
        for number in &mut self.numbers {
            number.generation = Generation::new(number.generation.get().saturating_add(leap));
        }
        for holder in u32::try_from(self.numbers.len()).unwrap_or(u32::MAX)..count {
            self.numbers.push(Number { generation: Generation::new(leap + 1), life: Life::Free });
            self.free.insert(HolderId::new(holder));
        }
    }

    /// The sweep is through with it.
    pub(crate) fn swept(&mut self, holder: HolderId) {
        self.numbers[holder.get() as usize].life = Life::Free;
        self.free.insert(holder);
    }

    /// Number of the last report applied of this life; `None` if it is over or never was.
    pub(crate) fn last_report(&self, holder: HolderId, generation: Generation) -> Option<u64> {
        match self.numbers.get(holder.get() as usize)? {
            Number { generation: current, life: Life::Granted { reported } } if *current == generation => {
                Some(*reported)
            }
            _ => None,
        }
    }

    /// Number of the last report of this life; `None` if it is over or never was.
    pub(crate) fn reported(&mut self, holder: HolderId, generation: Generation) -> Option<&mut u64> {
        match self.numbers.get_mut(holder.get() as usize)? {
            Number { generation: current, life: Life::Granted { reported } } if *current == generation => {
                Some(reported)
            }
            _ => None,
        }
    }
}
