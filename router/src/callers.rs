//! Who calls: an API key in, a tenant and its salt out.
//!
//! Keys come from metadata's tenants and from a file; both are followed, and a change counts for the next request. Only hashes
//! of keys are here, compared in constant time. What a key opens is decided by what is known, and by nothing a caller says.

mod config;
mod file;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use weft_metadata_client::{Accounts, Follower};
use weft_types::{ApiKey, KeyHash, KeyId, TenantId};

pub use self::config::{Keyless, KeysConfig};
pub(crate) use self::file::KeyFile;
pub use self::file::KeyFileError;
use crate::answer::Refusal;

/// Where Anthropic's clients put their key; others put it into `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// How every key of ours begins.
const KEY_PREFIX: &str = "weft_";

/// Somebody whose requests are served.
pub(crate) struct Caller {
    /// `None`: the one default tenant of a router without keys.
    pub(crate) tenant: Option<TenantId>,
    /// Against other tenants' where requests wait, as metadata has it.
    pub(crate) weight: u16,
    salt: String,
}

/// Everybody who may call.
pub(crate) struct Callers {
    config: KeysConfig,
    /// The listener is on loopback.
    loopback: bool,
    default_salt: String,
    known: ArcSwap<Known>,
}

/// What is known of keys at one time.
#[derive(Default)]
struct Known {
    keys: HashMap<KeyId, (KeyHash, Arc<Caller>)>,
    tenants: usize,
    /// Whom a caller without a key is; `None`: nobody.
    keyless: Option<Arc<Caller>>,
    /// Metadata has not said yet who its tenants are: an unknown key may be somebody's.
    untold: bool,
}

impl Caller {
    /// What goes into block hashes and to engines; empty: nothing does.
    pub(crate) fn salt(&self) -> &str {
        &self.salt
    }
}

impl Callers {
    /// A file is looked at again so often.
    const RELOAD_EVERY: Duration = Duration::from_secs(1);

    /// Of a file as it was at start, and of a metadata group that has said nothing yet.
    pub(crate) fn new(
        config: &KeysConfig,
        http: SocketAddr,
        default_salt: &str,
        file: Option<&KeyFile>,
        follows_metadata: bool,
    ) -> Self {
        let callers = Self {
            config: config.clone(),
            loopback: http.ip().is_loopback(),
            default_salt: default_salt.to_owned(),
            known: ArcSwap::default(),
        };
        let told = (!follows_metadata).then(Accounts::default);
        callers.put(file, told.as_ref());
        if callers.known.load().keyless.is_some() {
            warn!(
                "no API keys: anybody who can connect to {http} is the one default tenant, and may find out by timing what others \
                 asked. `weft tenant key add`, or `keys.file`, ends that"
            );
        }
        callers
    }

    /// Whose request this is.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let known = self.known.load();
        let nobody = |refusal| if known.untold { Refusal::KeysUntold } else { refusal };
        match presented(headers) {
            Some(text) if text.starts_with(KEY_PREFIX) => {
                let found = text.parse::<ApiKey>().ok().and_then(|key| known.find(&key));
                found.ok_or_else(|| nobody(Refusal::WrongKey))
            }
            // A key of another kind is an engine's business where nobody has one of ours.
            other => known
                .keyless
                .clone()
                .ok_or_else(|| nobody(if other.is_some() { Refusal::WrongKey } else { Refusal::NoKey })),
        }
    }

    /// Follows the file and metadata until it is dropped.
    pub(crate) async fn follow(self: Arc<Self>, mut file: Option<KeyFile>, follower: Option<Follower>) {
        let mut accounts = follower.as_ref().map(Follower::accounts_changes);
        let mut told = match &follower {
            Some(_) => None,
            None => Some(Arc::<Accounts>::default()),
        };
        let mut ticks = interval(Self::RELOAD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = async {
                match (&follower, &mut accounts) {
                    (Some(follower), Some(accounts)) => {
                        if told.is_some() && accounts.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                        follower.warm().await;
                        Arc::clone(&accounts.borrow_and_update())
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = heard => told = Some(heard),
                _ = ticks.tick(), if file.is_some() => {
                    let Some(known) = file.take() else { continue };
                    let (next, changed) = known.reread().await;
                    file = Some(next);
                    if !changed {
                        continue;
                    }
                }
            }
            self.put(file.as_ref(), told.as_deref());
            let known = self.known.load();
            info!(
                tenants = known.tenants,
                keys = known.keys.len(),
                keyless = known.keyless.is_some(),
                "API keys changed"
            );
        }
    }

    /// For people.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let known = self.known.load();
        serde_json::json!({
            "tenants": known.tenants, "keys": known.keys.len(), "keyless": known.keyless.is_some(), "told": !known.untold,
        })
    }

    fn put(&self, file: Option<&KeyFile>, accounts: Option<&Accounts>) {
        let mut known = Known { untold: accounts.is_none(), ..Known::default() };
        let mut unsalted = None;
        for (id, tenant) in accounts.iter().flat_map(|accounts| &accounts.tenants) {
            let Some(secrets) = &tenant.secrets else { continue };
            let salt = secrets.salt.as_ref().map(weft_types::Salt::reveal).unwrap_or_default();
            if salt.is_empty() && unsalted.is_none() {
                unsalted = Some(id.clone());
            }
            known.add(id, tenant.settings.weight, salt, &secrets.keys);
        }
        for (id, tenant) in file.iter().flat_map(|file| file.tenants()) {
            known.add(id, Known::WEIGHT, tenant.salt.clone(), &tenant.keys);
        }
        let serves = match self.config.keyless {
            Keyless::Always => true,
            Keyless::Never => false,
            Keyless::Loopback => self.loopback && !known.untold && known.tenants == 0 && file.is_none(),
        };
        known.keyless = serves
            .then(|| Arc::new(Caller { tenant: unsalted, weight: Known::WEIGHT, salt: self.default_salt.clone() }));
        self.known.store(Arc::new(known));
    }
}

impl std::fmt::Debug for Callers {
    /// Says no salt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Callers({})", self.describe())
    }
}

impl Known {
    /// Weight of those of whom metadata says nothing: what it gives a tenant that was just made.
    const WEIGHT: u16 = 100;

    /// Metadata's come first: a key of the file that has the id of one of theirs is nobody's.
    fn add<'a>(
        &mut self,
        tenant: &TenantId,
        weight: u16,
        salt: String,
        keys: impl IntoIterator<Item = (&'a KeyId, &'a KeyHash)>,
    ) {
        let caller = Arc::new(Caller { tenant: Some(tenant.clone()), weight, salt });
        self.tenants += 1;
        for (id, hash) in keys {
            if self.keys.contains_key(id) {
                warn!(key = %id, %tenant, "an API key with this id is there already: this one is left out");
                continue;
            }
            self.keys.insert(id.clone(), (*hash, Arc::clone(&caller)));
        }
    }

    fn find(&self, key: &ApiKey) -> Option<Arc<Caller>> {
        let (hash, caller) = self.keys.get(key.id())?;
        (*hash == key.hash()).then(|| Arc::clone(caller))
    }
}

/// Takes keys of ours out of what goes to an engine. Keys of other kinds stay: they are the engine's.
pub(crate) fn strip_keys(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, API_KEY] {
        let ours =
            |value: &HeaderValue| value.as_bytes().windows(KEY_PREFIX.len()).any(|part| part == KEY_PREFIX.as_bytes());
        if headers.get_all(&name).iter().any(ours) {
            headers.remove(&name);
        }
    }
}

/// The key that a request brings: one of ours, if there are several.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(|value| {
        let (scheme, rest) = value.split_at_checked("bearer ".len()).unwrap_or(("", value));
        if scheme.eq_ignore_ascii_case("bearer ") { rest.trim() } else { value.trim() }
    });
    let named = headers.get(API_KEY).and_then(|value| value.to_str().ok()).map(str::trim);
    let ours = |text: &&str| text.starts_with(KEY_PREFIX);
    bearer.filter(ours).or(named.filter(ours)).or(bearer).or(named)
}
