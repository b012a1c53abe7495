//! A cluster CA, fabrics of any role, and the methods that the tests serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use weft_service::certs::{Ca, Issued};
use weft_transport::{Credentials, Fabric, Identity, Metrics, Profile, Target, Tuning};
use weft_types::rpc::Method;
use weft_types::{Role, control_message};

/// Long enough for any machine; nothing waits for it unless something is broken.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const EVERYBODY: &[Role] = &Role::ALL;

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn identity(ca: &Ca, role: Role, name: &str) -> Identity {
    let Issued { cert, key } = ca.issue(role.as_str(), name, 1).unwrap();
    Identity::from_pem(&cert, &key, ca.cert_pem()).unwrap()
}

/// A fabric and the registry that its counters are in.
pub(crate) struct Peer {
    pub(crate) fabric: Fabric,
    pub(crate) registry: Registry,
    role: Role,
    name: String,
}

pub(crate) fn bind(identity: &Identity, tuning: impl Into<Tuning>) -> Peer {
    bind_at(loopback(), identity, tuning)
}

/// A fabric whose credentials may change.
pub(crate) fn bind_with(credentials: &Credentials, identity: &Identity) -> Peer {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry);
    let fabric = Fabric::bind(loopback(), Profile::Control, credentials, metrics.clone()).unwrap();
    Peer { fabric, registry, role: identity.me.role, name: identity.me.name.to_string() }
}

pub(crate) fn bind_at(addr: SocketAddr, identity: &Identity, tuning: impl Into<Tuning>) -> Peer {
    let registry = Registry::new();
    let fabric = Fabric::bind(addr, tuning, identity, Metrics::register(&registry)).unwrap();
    Peer { fabric, registry, role: identity.me.role, name: identity.me.name.to_string() }
}

impl Peer {
    /// This peer as a target of others.
    pub(crate) fn target(&self) -> Target {
        Target { addr: self.fabric.local_addr(), role: self.role, name: Some(self.name.parse().unwrap()) }
    }

    /// Sum of a counter's series whose labels include these values.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).into_iter();
        let series = family.flat_map(|family| family.get_metric());
        let named = series
            .filter(|metric| labels.iter().all(|label| metric.get_label().iter().any(|pair| pair.value() == *label)));
        named.map(|metric| metric.get_counter().get_value() as u64).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text(pub(crate) String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count(pub(crate) u32);

control_message!(Text, Count);

pub(crate) fn text(text: &str) -> Text {
    Text(text.to_owned())
}

/// Answers what it was asked.
pub(crate) struct Echo;
impl Method for Echo {
    const ID: u16 = 60_000;
    const NAME: &'static str = "echo";
    const REQUEST_BYTES_MAX: usize = 100_000;
    type Request = Text;
    type Response = Text;
}

/// Counts from 0 up to the request.
pub(crate) struct CountTo;
impl Method for CountTo {
    const ID: u16 = 60_001;
    const NAME: &'static str = "count_to";
    type Request = Count;
    type Response = Count;
}

/// Never answers.
pub(crate) struct Hang;
impl Method for Hang {
    const ID: u16 = 60_002;
    const NAME: &'static str = "hang";
    type Request = ();
    type Response = ();
}

/// Says when a handler has begun, and when it was dropped.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Seen>);

#[derive(Default)]
struct Seen {
    begun: Notify,
    dropped: Notify,
    is_dropped: AtomicBool,
}

impl Witness {
    /// Held by a handler for as long as it lives.
    pub(crate) fn begin(&self) -> impl Drop + Send + use<> {
        struct Held(Arc<Seen>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.is_dropped.store(true, Ordering::SeqCst);
                self.0.dropped.notify_one();
            }
        }
        self.0.begun.notify_one();
        Held(Arc::clone(&self.0))
    }

    pub(crate) async fn begun(&self) {
        soon(self.0.begun.notified()).await;
    }

    pub(crate) async fn dropped(&self) {
        soon(self.0.dropped.notified()).await;
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_dropped.load(Ordering::SeqCst)
    }
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("this should have happened by now")
}
