//! Values that clients were told are here: they stay for some seconds, so that the `GET` that follows an `EXISTS` finds them.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::values::Value;

/// How long: 5 s. LMCache looks up a whole prompt before it gets what was there.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// A quarter of the slots may be kept so; beyond, the oldest goes.
const KEPT_SHARE: usize = 4;

/// Values that are pinned for their reader to come.
#[derive(Debug)]
pub(super) struct Kept {
    heads_max: usize,
    parts_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: VecDeque<(Instant, Value)>,
    parts: usize,
}

impl Kept {
    /// None yet, out of so many slots of heads and of parts.
    pub(super) fn new((heads, parts): (usize, usize)) -> Self {
        Self { heads_max: heads / KEPT_SHARE, parts_max: parts / KEPT_SHARE, inner: Mutex::default() }
    }

    /// Keeps one more.
    pub(super) fn keep(&self, value: Value) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        inner.parts += value.pieces.len();
        inner.values.push_back((now + KEPT_FOR, value));
        inner.let_go(|inner| inner.values.len() > self.heads_max || inner.parts > self.parts_max);
        inner.let_go_of_old(now);
    }

    /// Lets those go whose time is over.
    pub(super) fn sweep(&self) {
        self.inner.lock().let_go_of_old(Instant::now());
    }
}

impl Inner {
    fn let_go_of_old(&mut self, now: Instant) {
        self.let_go(|inner| inner.values.front().is_some_and(|(until, _)| *until <= now));
    }

    fn let_go(&mut self, too_many: impl Fn(&Self) -> bool) {
        while too_many(self) {
            let Some((_, value)) = self.values.pop_front() else { return };
            self.parts -= value.pieces.len();
        }
    }
}
