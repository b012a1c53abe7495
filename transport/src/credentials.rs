//! What the sockets of a process present, and which certificates they refuse: both may change while they run.
//!
//! New connections use what is in force when they are made. Those that are open are looked after one by one: see
//! [`crate::standing`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::info;
use weft_types::Serial;

use crate::{Identity, IdentityError, Metrics, Peer};

/// Identity and deny list of a process. Clones are the same one.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    identity: watch::Sender<Arc<Identity>>,
    revoked: watch::Sender<Arc<BTreeSet<Serial>>>,
}

/// Why the identity in use stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The texts are not an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// They are somebody else's.
    #[error("the new certificate is of {found}, and this process is {me}: it goes on with the one it has")]
    Another {
        /// Whom the new certificate names.
        found: Peer,
        /// Whom the one in use names.
        me: Peer,
    },
}

impl Credentials {
    /// Takes up another certificate of the same process, for connections made from now on: three PEM texts, as for
    /// [`Identity::from_pem`].
    ///
    /// # Errors
    /// They are no identity, or another's; the one in use stays.
    pub fn renew(&self, cert: &str, key: &str, ca: &str, metrics: &Metrics) -> Result<(), RenewError> {
        let renewed = self.take_up(cert, key, ca);
        metrics.renewed(renewed.as_ref().ok().copied());
        renewed.map(drop)
    }

    /// From now on refuses these certificates and no others; whoever is connected with one of them is cut off.
    pub fn revoke(&self, revoked: &Arc<BTreeSet<Serial>>) {
        self.0.revoked.send_if_modified(|list| {
            let same = Arc::ptr_eq(list, revoked) || list == revoked;
            *list = Arc::clone(revoked);
            !same
        });
    }

    /// What is presented.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.0.identity.borrow())
    }

    /// Whether another identity than `known` is presented by now.
    pub(crate) fn have_changed(&self, known: &Arc<Identity>) -> bool {
        !Arc::ptr_eq(&self.0.identity.borrow(), known)
    }

    /// What is refused, now and from now on.
    pub(crate) fn revoked(&self) -> watch::Receiver<Arc<BTreeSet<Serial>>> {
        self.0.revoked.subscribe()
    }

    pub(crate) fn is_revoked(&self, serial: &Serial) -> bool {
        self.0.revoked.borrow().contains(serial)
    }

    fn take_up(&self, cert: &str, key: &str, ca: &str) -> Result<i64, RenewError> {
        let new = Identity::from_pem(cert, key, ca)?;
        let me = self.identity().me.clone();
        if new.me != me {
            return Err(RenewError::Another { found: new.me, me });
        }
        let ends = new.ends;
        self.0.identity.send_replace(Arc::new(new));
        info!(%me, ends, "another certificate is in use");
        Ok(ends)
    }
}

impl From<&Identity> for Credentials {
    fn from(identity: &Identity) -> Self {
        let (identity, _) = watch::channel(Arc::new(identity.clone()));
        Self(Arc::new(Shared { identity, revoked: watch::Sender::default() }))
    }
}

impl From<&Self> for Credentials {
    fn from(credentials: &Self) -> Self {
        credentials.clone()
    }
}

/// Shows who it is and keeps the key to itself.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("me", &self.identity().me).finish_non_exhaustive()
    }
}
