//! Connections by target: one each, one dial at a time, dropped when broken, and no more than a bound.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quinn::Connection;
use tokio::sync::watch;
use weft_transport_proto::codes;

use crate::fabric::Core;
use crate::standing::Lifetime;
use crate::{Identity, Target, dial};

/// Targets with a connection at a time; beyond it the one that was used longest ago is let go, and ends when its last stream
/// does. A router of the largest fleet that one metadata group serves talks to a few hundred nodes.
const TARGETS_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: HashMap<Target, Line>,
    /// Counts uses; the order of `Line::used`.
    uses: u64,
}

#[derive(Debug)]
struct Line {
    dial: watch::Receiver<Dial>,
    used: u64,
}

#[derive(Debug, Clone)]
enum Dial {
    Pending,
    Open(Arc<Kept>),
    Failed(Arc<str>),
}

/// A connection for as long as somebody uses it: the pool, and every request on it. With the last of them it ends.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) connection: Connection,
    pub(crate) lifetime: Lifetime,
    /// What we presented on it.
    pub(crate) presented: Arc<Identity>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.connection.close(codes::CLOSED.into(), b"not used any more");
    }
}

impl Pool {
    /// The connection to a target, made if there is none that works. Whoever asks while it is being made waits for the same
    /// attempt.
    ///
    /// # Errors
    /// Why there is none, for a human.
    pub(crate) async fn connection(&self, core: &Arc<Core>, to: &Target) -> Result<Arc<Kept>, Arc<str>> {
        let mut dial = self.line(core, to);
        let settled = dial.wait_for(|dial| !matches!(dial, Dial::Pending)).await;
        match settled.as_deref() {
            Ok(Dial::Open(connection)) => Ok(Arc::clone(connection)),
            Ok(Dial::Failed(reason)) => Err(Arc::clone(reason)),
            Ok(Dial::Pending) | Err(_) => Err("the fabric is closed".into()),
        }
    }

    /// The next call to a target makes a connection of its own, whatever becomes of the one there is.
    pub(crate) fn forget(&self, to: &Target) {
        self.state.lock().lines.remove(to);
    }

    fn line(&self, core: &Arc<Core>, to: &Target) -> watch::Receiver<Dial> {
        let mut state = self.state.lock();
        state.uses += 1;
        let used = state.uses;
        if let Some(line) = state.lines.get_mut(to)
            && line.usable(core)
        {
            line.used = used;
            return line.dial.clone();
        }
        state.make_room(core);
        let (sender, dial) = watch::channel(Dial::Pending);
        state.lines.insert(to.clone(), Line { dial: dial.clone(), used });
        let attempt = dial::dial(Arc::clone(core), to.clone());
        tokio::spawn(async move {
            let settled = match attempt.await {
                Ok(kept) => Dial::Open(Arc::new(kept)),
                Err(reason) => Dial::Failed(reason.into()),
            };
            sender.send_replace(settled);
        });
        dial
    }
}

impl State {
    fn make_room(&mut self, core: &Core) {
        self.lines.retain(|_, line| line.usable(core));
        while self.lines.len() >= TARGETS_MAX {
            let Some(oldest) = self.lines.iter().min_by_key(|(_, line)| line.used).map(|(to, _)| to.clone()) else {
                return;
            };
            self.lines.remove(&oldest);
        }
    }
}

impl Line {
    fn usable(&self, core: &Core) -> bool {
        match &*self.dial.borrow() {
            Dial::Pending => self.dial.has_changed().is_ok(),
            Dial::Open(kept) => {
                let current = !core.credentials.have_changed(&kept.presented) && !kept.lifetime.is_stale();
                current && kept.connection.close_reason().is_none()
            }
            Dial::Failed(_) => false,
        }
    }
}
