//! Log lines and counts of refused peers. Each refusal is counted; of the lines of one reason there is at most one a second,
//! so that a misconfigured or hostile peer that keeps trying cannot fill a disk.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;
use weft_transport_proto::Refusal;

use crate::trust::PeerRefusal;
use crate::{Metrics, Peer};

/// Least time between two lines of one reason.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What was refused lately, by either side.
#[derive(Debug)]
pub(crate) struct Refusals {
    me: Peer,
    metrics: Metrics,
    /// Last line of each reason; reasons are constants of this crate, a dozen at most.
    lines: Mutex<HashMap<&'static str, Instant>>,
}

impl Refusals {
    pub(crate) fn new(me: Peer, metrics: Metrics) -> Self {
        Self { me, metrics, lines: Mutex::default() }
    }

    /// We refused a peer.
    pub(crate) fn ours(&self, addr: SocketAddr, refusal: &PeerRefusal) {
        self.metrics.refused.with_label_values(&[refusal.reason()]).inc();
        if self.may_log(refusal.reason()) {
            warn!(peer = %addr, me = %self.me, reason = refusal.reason(), "refused a peer: it {refusal}");
        }
    }

    /// A peer refused us.
    pub(crate) fn theirs(&self, addr: SocketAddr, said: &str) {
        if self.may_log("by_peer") {
            warn!(peer = %addr, me = %self.me, "a peer refused us: we {said}");
        }
    }

    /// A peer's role may not do what it asked for.
    pub(crate) fn forbade(&self, addr: SocketAddr, peer: &Peer, refusal: &Refusal) {
        self.metrics.refused.with_label_values(&["forbidden"]).inc();
        if self.may_log("forbidden") {
            warn!(peer = %addr, who = %peer, me = %self.me, "refused a request: {}", refusal.message);
        }
    }

    /// A peer forbade us what we asked for.
    pub(crate) fn forbidden(&self, addr: SocketAddr, refusal: &Refusal) {
        if self.may_log("forbidden_by_peer") {
            warn!(peer = %addr, me = %self.me, "a peer refused our request: {}", refusal.message);
        }
    }

    fn may_log(&self, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut lines = self.lines.lock();
        let due = lines.get(reason).is_none_or(|last| now.duration_since(*last) >= LINE_EVERY);
        if due {
            lines.insert(reason, now);
        }
        due
    }
}
