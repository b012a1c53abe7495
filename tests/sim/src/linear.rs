//! Whether a history of concurrent calls is linearisable: whether each call can be thought to have happened at one moment
//! between its beginning and its end, so that one after another they are what a model allows.
//!
//! By Wing and Gong's search, with Lowe's memory of where it has been: a configuration is which calls have happened and the
//! state they led to, and none is looked at twice. A call whose end nobody saw may happen at any time after it began, or never.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::Hash;

/// Configurations looked at before the search is given up, a second at most: each call whose end nobody saw doubles them.
const CONFIGURATIONS_MAX: usize = 20_000;

/// What calls may do, one at a time.
pub(crate) trait Model {
    type State: Clone + Eq + Hash;
    type Call: Debug;

    /// Where it may be once the call has happened in this state; nowhere: that it happens now, with what came of it, is
    /// impossible.
    fn step(state: &Self::State, call: &Timed<Self::Call>) -> Vec<Self::State>;
}

/// A call with what came of it, in microseconds of virtual time.
#[derive(Clone, Debug)]
pub(crate) struct Timed<C> {
    pub(crate) call: C,
    pub(crate) began: u64,
    /// `None`: nobody saw its end.
    pub(crate) ended: Option<u64>,
}

/// Why a history is not accepted.
#[derive(PartialEq, Eq)]
pub(crate) enum Refused {
    /// No order of the calls explains it. With the most that could be explained, in order, and the calls that then were next.
    NotLinearisable { explained: Vec<String>, stuck: Vec<String> },
    /// There are too many orders to try.
    Undecided,
}

/// Looks for an order that explains the history.
pub(crate) fn check<M: Model>(initial: M::State, history: &[Timed<M::Call>]) -> Result<(), Refused> {
    let mut by_end: Vec<usize> = (0..history.len()).collect();
    by_end.sort_by_key(|at| (history[*at].ended.unwrap_or(u64::MAX), history[*at].began));
    let mut seen = HashSet::new();
    let mut open = vec![(Vec::new(), initial)];
    let mut longest = Vec::new();
    while let Some((order, state)) = open.pop() {
        let left: Vec<usize> = by_end.iter().copied().filter(|at| !order.contains(at)).collect();
        // Whatever begins after another has ended comes after it.
        let Some(first_end) = left.first().and_then(|at| history[*at].ended) else { return Ok(()) };
        if order.len() >= longest.len() {
            longest.clone_from(&order);
        }
        let mut nexts = Vec::new();
        for at in left.into_iter().filter(|at| history[*at].began <= first_end) {
            let states = M::step(&state, &history[at]);
            // One that happens and changes nothing may as well happen now.
            if states.len() == 1 && states[0] == state {
                nexts = vec![(at, state.clone())];
                break;
            }
            nexts.extend(states.into_iter().map(|state| (at, state)));
        }
        // The one that ended first is tried first.
        for (at, state) in nexts.into_iter().rev() {
            let mut order = order.clone();
            order.push(at);
            let mut happened = order.clone();
            happened.sort_unstable();
            if seen.insert((happened, state.clone())) {
                open.push((order, state));
            }
        }
        if seen.len() > CONFIGURATIONS_MAX {
            return Err(Refused::Undecided);
        }
    }
    let line = |at: &usize| format!("{:?}", history[*at]);
    let first_end = by_end.iter().filter(|at| !longest.contains(at)).find_map(|at| history[*at].ended);
    let next = |at: &&usize| !longest.contains(at) && Some(history[**at].began) <= first_end;
    Err(Refused::NotLinearisable {
        explained: longest.iter().map(line).collect(),
        stuck: by_end.iter().filter(next).map(line).collect(),
    })
}

impl Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearisable { explained, stuck } => {
                write!(f, "no order explains it; after\n  {}\nnone of these can be next:\n  ", explained.join("\n  "))?;
                f.write_str(&stuck.join("\n  "))
            }
            Self::Undecided => write!(f, "not decided after {CONFIGURATIONS_MAX} configurations"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that holds a number.
    struct Register;

    #[derive(Debug)]
    enum Call {
        Write(u32),
        Read(u32),
        /// Adds one, and is told what it was.
        Add(u32),
    }

    impl Model for Register {
        type State = u32;
        type Call = Call;

        fn step(state: &u32, call: &Timed<Call>) -> Vec<u32> {
            match call.call {
                Call::Write(number) => vec![number],
                Call::Read(number) if number == *state => vec![number],
                Call::Add(was) if was == *state => vec![was + 1],
                Call::Read(_) | Call::Add(_) => Vec::new(),
            }
        }
    }

    fn accepts(history: Vec<(Call, u64, u64)>) -> bool {
        let ended = |ended| (ended > 0).then_some(ended);
        let timed = |(call, began, end)| Timed { call, began, ended: ended(end) };
        let history: Vec<_> = history.into_iter().map(timed).collect();
        match check::<Register>(0, &history) {
            Ok(()) => true,
            Err(Refused::NotLinearisable { .. }) => false,
            Err(Refused::Undecided) => panic!("so short a history is decided"),
        }
    }

    #[test]
    fn a_read_may_see_either_side_of_a_write_beside_it_but_nothing_stale() {
        use Call::{Read, Write};
        assert!(accepts(vec![(Write(1), 1, 9), (Read(0), 2, 3), (Read(1), 4, 5)]));
        assert!(!accepts(vec![(Write(1), 1, 9), (Read(1), 2, 3), (Read(0), 4, 5)]), "once seen, it stays");
        assert!(!accepts(vec![(Write(1), 1, 2), (Read(0), 3, 4)]), "a stale read");
        assert!(!accepts(vec![(Write(1), 1, 2), (Write(2), 3, 4), (Read(1), 5, 6)]), "a lost write");
    }

    #[test]
    fn of_two_updates_none_is_lost() {
        use Call::{Add, Read};
        assert!(accepts(vec![(Add(1), 1, 9), (Add(0), 2, 9), (Read(2), 10, 11)]));
        assert!(!accepts(vec![(Add(0), 1, 9), (Add(0), 2, 9)]), "both saw the same");
        assert!(!accepts(vec![(Add(0), 1, 9), (Add(1), 2, 9), (Read(1), 10, 11)]), "a lost update");
    }

    #[test]
    fn what_nobody_saw_end_happens_late_or_never_but_not_twice() {
        use Call::{Read, Write};
        assert!(accepts(vec![(Write(1), 1, 0), (Read(0), 20, 21)]));
        assert!(accepts(vec![(Write(1), 1, 0), (Read(0), 20, 21), (Read(1), 22, 23)]));
        assert!(!accepts(vec![(Write(1), 1, 0), (Read(1), 20, 21), (Read(0), 22, 23)]));
        assert!(!accepts(vec![(Write(1), 1, 0), (Read(1), 2, 3), (Write(2), 4, 5), (Read(1), 6, 7)]));
        assert!(!accepts(vec![(Read(1), 1, 2), (Write(1), 3, 0)]), "before it began");
    }

    #[test]
    fn a_search_that_grows_too_large_says_so() {
        // No two orders of these lead to the same state, and none explains the read.
        struct Log;
        impl Model for Log {
            type State = Vec<u32>;
            type Call = Option<u32>;
            fn step(state: &Vec<u32>, call: &Timed<Option<u32>>) -> Vec<Vec<u32>> {
                call.call.map(|number| [&state[..], &[number]].concat()).into_iter().collect()
            }
        }
        let write = |number| Timed { call: Some(number), began: 0, ended: Some(9) };
        let mut history: Vec<_> = (0..12).map(write).collect();
        history.push(Timed { call: None, began: 10, ended: Some(11) });
        assert_eq!(check::<Log>(Vec::new(), &history), Err(Refused::Undecided));
    }
}
