//! Whether an open connection may go on: neither certificate has ended, and the peer's is not on the deny list.
//!
//! Both ends look after their end of it. The dialling side takes a connection out of use before a certificate ends
//! ([`Lifetime::stale_at`]), so that calls go on over one that was made with newer certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn::Connection;
use weft_transport_proto::codes;
use weft_types::Serial;

use crate::fabric::Core;
use crate::trust::PeerRefusal;
use crate::{Identity, Peer};

/// A clock that was set is noticed within this.
const CLOCK_LOOK: Duration = Duration::from_secs(10);

/// Longest that a connection is taken out of use before a certificate ends.
const STALE_BEFORE_MAX: Duration = Duration::from_secs(60);
/// What part of its time that is at most: short certificates are for tests, and for those who mean it.
const STALE_PART: u32 = 10;

/// Who the other side of a connection proved to be, and by which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) peer: Peer,
    pub(crate) serial: Serial,
    /// In seconds since 1970.
    pub(crate) ends: i64,
}

/// How long the certificates of a connection are good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    end: SystemTime,
    stale_at: SystemTime,
}

impl Lifetime {
    /// Of a connection between `ours` and `theirs`, made now.
    pub(crate) fn of(ours: &Identity, theirs: &Proof) -> Self {
        // The second that a certificate names is its last (RFC 5280, 4.1.2.5).
        let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(ours.ends.min(theirs.ends)).unwrap_or(0) + 1);
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        Self { end, stale_at: end - (left / STALE_PART).min(STALE_BEFORE_MAX) }
    }

    /// No new request should go this way.
    pub(crate) fn is_stale(&self) -> bool {
        SystemTime::now() >= self.stale_at
    }

    /// What is left of it.
    fn left(&self) -> Option<Duration> {
        self.end.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())
    }
}

/// Cuts a connection off when it may not go on; ends with the connection.
pub(crate) async fn keep(core: Arc<Core>, connection: Connection, proof: Proof, lifetime: Lifetime) {
    let mut revoked = core.credentials.revoked();
    loop {
        let refusal = if revoked.borrow_and_update().contains(&proof.serial) {
            Some((codes::REVOKED, PeerRefusal::Revoked { peer: proof.peer.clone(), serial: proof.serial.clone() }))
        } else if lifetime.left().is_none() {
            Some((codes::EXPIRED, PeerRefusal::Ended { peer: proof.peer.clone() }))
        } else {
            None
        };
        if let Some((code, refusal)) = refusal {
            core.refusals.ours(connection.remote_address(), &refusal);
            connection.close(code.into(), refusal.to_string().as_bytes());
            return;
        }
        let look = lifetime.left().unwrap_or_default().min(CLOCK_LOOK);
        tokio::select! {
            _ = connection.closed() => return,
            changed = revoked.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(look) => {}
        }
    }
}
