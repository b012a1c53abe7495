//! What happened, in order and with the virtual time: read by people when a seed fails, and compared as a hash to see that a
//! seed replays.

use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hasher};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines kept: the last ones are those that matter.
const LINES_MAX: usize = 200_000;

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Chronicle {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    hash: DefaultHasher,
    violations: Vec<String>,
    judged: Judged,
}

/// Histories of accounts for which an order was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// All of them.
    pub histories: u64,
    /// Those whose search was given up: nothing is known of them.
    pub undecided: u64,
}

impl Chronicle {
    /// Begins now.
    #[must_use]
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), kept: Mutex::default() }
    }

    /// Notes what happened.
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{:10.3} {what}", self.began.elapsed().as_secs_f64());
        let kept = &mut *self.kept.lock();
        kept.hash.write(line.as_bytes());
        kept.lines.push_back(line);
        if kept.lines.len() > LINES_MAX {
            kept.lines.pop_front();
        }
    }

    /// An invariant does not hold.
    pub(crate) fn violated(&self, invariant: &str, how: impl Display) {
        let what = format!("VIOLATED: {invariant}: {how}");
        self.note(&what);
        self.kept.lock().violations.push(what);
    }

    /// A history of accounts was judged, or the search was given up.
    pub(crate) fn judged(&self, decided: bool) {
        let judged = &mut self.kept.lock().judged;
        judged.histories += 1;
        judged.undecided += u64::from(!decided);
    }

    /// How many were.
    #[must_use]
    pub(crate) fn histories(&self) -> Judged {
        self.kept.lock().judged
    }

    /// Whether one was violated.
    #[must_use]
    pub(crate) fn is_violated(&self) -> bool {
        !self.kept.lock().violations.is_empty()
    }

    /// What was violated.
    #[must_use]
    pub(crate) fn violations(&self) -> Vec<String> {
        self.kept.lock().violations.clone()
    }

    /// Of everything noted.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        self.kept.lock().hash.finish()
    }

    /// The lines, one a line.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        self.kept.lock().lines.iter().flat_map(|line| [line, "\n"]).collect()
    }
}
