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
