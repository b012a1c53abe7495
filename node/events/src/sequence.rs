//! The numbers of an engine's batches: which is next, what is missing, and when the engine began anew.

/// How far a subscriber has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sequence {
    /// The batch to be applied next.
    next: u64,
    /// The last one that came by subscription.
    heard: Option<u64>,
}

/// What the number of a batch says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is the next one.
    Next,
    /// Batches are missing, from [`Sequence::next`] to the one before.
    Gap,
    /// A replay had it already.
    Repeated,
    /// The engine counts from 0 again: what it held before is gone, and batches since then may be missing too.
    Restarted,
}

impl Sequence {
    /// A batch with this number came by subscription, where numbers ascend as long as the engine lives. After a restart
    /// nothing counts as applied.
    pub fn arrive(&mut self, number: u64) -> Arrival {
        if self.heard.is_some_and(|heard| number <= heard) {
            *self = Self { next: 0, heard: Some(number) };
            return Arrival::Restarted;
        }
        self.heard = Some(number);
        match number.cmp(&self.next) {
            std::cmp::Ordering::Equal => Arrival::Next,
            std::cmp::Ordering::Greater => Arrival::Gap,
            std::cmp::Ordering::Less => Arrival::Repeated,
        }
    }

    /// The number of the batch to be applied next.
    #[must_use]
    pub fn next(self) -> u64 {
        self.next
    }

    /// The batch of this number was applied, or given up.
    pub fn taken(&mut self, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_gaps_from_restarts() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.arrive(0), Arrival::Next);
        sequence.taken(0);
        assert_eq!(sequence.arrive(1), Arrival::Next);
        sequence.taken(1);
        assert_eq!((sequence.arrive(5), sequence.next()), (Arrival::Gap, 2));
        // A replay had what came meanwhile too.
        (2..=7).for_each(|number| sequence.taken(number));
        assert_eq!((sequence.arrive(6), sequence.arrive(7)), (Arrival::Repeated, Arrival::Repeated));
        assert_eq!(sequence.arrive(8), Arrival::Next);
        sequence.taken(8);
        assert_eq!(sequence.arrive(3), Arrival::Restarted);
        assert_eq!(sequence.next(), 0, "nothing of this life was applied");
        sequence.taken(3);
        assert_eq!(sequence.arrive(4), Arrival::Next);
        assert_eq!(sequence.arrive(4), Arrival::Restarted, "no number comes twice in one life");
        assert_eq!(Sequence::default().arrive(7), Arrival::Gap, "whoever comes late missed the beginning");
    }
}
