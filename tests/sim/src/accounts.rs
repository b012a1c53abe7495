//! Operators: they set quotas, add and remove tenants and keys, take, renew and drop leases, and look at what is there. Every
//! call is written down with what came of it and when, for the invariants to judge.

pub(crate) mod model;
pub(crate) mod record;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_transport::Fabric;
use weft_types::{ApiKey, IndexKey, KeyId, LeaseId, Name, OperatorAction, RequestId, TenantId, TenantSettings};

use self::model::{Action, Answer, Settings, Tag};
use self::record::{Record, Request};
use crate::chronicle::Chronicle;

/// How long an operator waits for an answer: longer than an election, or shorter.
const DEADLINES: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(300)];

/// Tenants that there may be.
const TENANTS: usize = 2;

/// Keys that each of them may have.
const KEYS: usize = 3;

/// Blocks that leases share, besides the one that is each lease's own.
const SHARED_BLOCKS: u8 = 8;

/// Blocks that a tenant's leases may pin: some leases' worth.
const BUDGETS: std::ops::Range<u32> = 2..16;

/// How long a lease lasts: for less than a run, or for more.
const TTLS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(600)];

/// The operators, and what they have done.
#[derive(Debug)]
pub(crate) struct Accounts {
    operators: Vec<Operator>,
    record: Arc<Mutex<Record>>,
    tags: Tag,
}

/// One of them, who waits for an answer before asking for something else.
#[derive(Debug)]
struct Operator {
    name: Name,
    client: MetadataClient,
    addr: SocketAddr,
    busy: Arc<AtomicBool>,
    chronicle: Arc<Chronicle>,
}

/// A block that no other lease has first.
pub(crate) fn tag_block(tag: Tag) -> IndexKey {
    let mut bytes = [0xee; 16];
    bytes[..4].copy_from_slice(&tag.to_le_bytes());
    IndexKey::from_bytes(bytes)
}

/// The lease whose first block it is.
pub(crate) fn tag_of(block: &IndexKey) -> Tag {
    let bytes = block.as_bytes();
    Tag::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn prefix(tag: Tag, shared: model::Shared) -> Vec<IndexKey> {
    let shared = (0..SHARED_BLOCKS).filter(|bit| shared & (1 << bit) > 0).map(|bit| IndexKey::from_bytes([bit; 16]));
    std::iter::once(tag_block(tag)).chain(shared).collect()
}

fn tenant(number: usize) -> TenantId {
    format!("tenant-{number}").parse().expect("a name")
}

/// Of one tenant only, so that tenants can be judged apart.
fn key(tenant: usize, number: usize) -> KeyId {
    format!("key-{tenant}-{number}").parse().expect("a name")
}

impl Accounts {
    /// Nobody has asked for anything yet. Each operator is at its own fabric.
    pub(crate) fn new(
        fabrics: Vec<(Name, Fabric)>,
        members: &[SocketAddr],
        random: &mut ChaCha8Rng,
        chronicle: &Arc<Chronicle>,
    ) -> Self {
        let operator = |(name, fabric): (Name, Fabric)| Operator {
            name,
            addr: fabric.local_addr(),
            client: MetadataClient::new(fabric, members.to_vec()).with_jitter(random.random()),
            busy: Arc::default(),
            chronicle: Arc::clone(chronicle),
        };
        Self { operators: fabrics.into_iter().map(operator).collect(), record: Arc::default(), tags: 0 }
    }

    pub(crate) fn addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.operators.iter().map(|operator| operator.addr)
    }

    /// Nobody waits for an answer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.operators.iter().all(|operator| !operator.busy.load(Ordering::Relaxed))
    }

    /// What was done so far.
    pub(crate) fn record<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock())
    }

    /// Everybody who is free asks for something of the same tenant, at the same time. Returns what, in words.
    pub(crate) fn ask(&mut self, random: &mut ChaCha8Rng) -> Vec<String> {
        let of = random.random_range(0..TENANTS);
        let free: Vec<usize> =
            (0..self.operators.len()).filter(|at| !self.operators[*at].busy.load(Ordering::Relaxed)).collect();
        let mut words = Vec::new();
        for at in free {
            if random.random_bool(0.2) {
                continue;
            }
            let name = self.operators[at].name.clone();
            let deadline = *DEADLINES.choose(random).expect("there are some");
            match self.choose(of, random) {
                Some((action, asked)) => {
                    words.push(format!("{name} asks: {asked} ({action:?})"));
                    let request = RequestId::new(random.random());
                    self.change(at, of, (action, asked), request, deadline);
                }
                None => {
                    words.push(format!("{name} looks at the accounts"));
                    self.look(at, deadline);
                }
            }
        }
        words
    }

    /// What an operator asks for; `None`: to look.
    fn choose(&mut self, of: usize, random: &mut ChaCha8Rng) -> Option<(Action, OperatorAction)> {
        let tenant = tenant(of);
        let ttl = *TTLS.choose(random).expect("there are some");
        let known = self.record.lock().leases_of(&tenant);
        let known = known.choose(random).copied();
        let key = key(of, random.random_range(0..KEYS));
        Some(match (random.random_range(0..100), known) {
            (0..12, _) => return None,
            (12..25, _) => {
                let settings =
                    Settings { weight: random.random_range(1..1000), lease_blocks_max: random.random_range(BUDGETS) };
                let Settings { weight, lease_blocks_max } = settings;
                let asked = TenantSettings { weight, lease_blocks_max, ..TenantSettings::default() };
                (Action::Put(settings), OperatorAction::PutTenant { tenant, settings: asked, unsalted: false })
            }
            (25..28, _) => (Action::Remove, OperatorAction::RemoveTenant { tenant }),
            (28..36, _) => {
                let hash = ApiKey::new(key.clone(), [0; 32]).hash();
                (Action::AddKey(key.clone()), OperatorAction::AddKey { tenant, key, hash })
            }
            (36..42, _) => (Action::RemoveKey(key.clone()), OperatorAction::RemoveKey { tenant, key }),
            (42..56, Some((tag, lease))) => (Action::Renew { tag, ttl }, OperatorAction::RenewLease { lease, ttl }),
            (56..64, Some((tag, lease))) => (Action::Release { tag }, OperatorAction::ReleaseLease { lease }),
            _ => {
                self.tags += 1;
                let (tag, shared) = (self.tags, random.random_range(0..1 << SHARED_BLOCKS));
                let prefix = prefix(tag, shared);
                (Action::Grant { tag, shared, ttl }, OperatorAction::GrantLease { tenant, prefix, ttl })
            }
        })
    }

    fn change(
        &self,
        at: usize,
        of: usize,
        (action, asked): (Action, OperatorAction),
        request: RequestId,
        deadline: Duration,
    ) {
        let Operator { name, client, busy, chronicle, .. } = &self.operators[at];
        let (by, client, busy, record) = (name.clone(), client.clone(), Arc::clone(busy), Arc::clone(&self.record));
        let chronicle = Arc::clone(chronicle);
        busy.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            let began = record.lock().now();
            let operated = client.operate_as(request, asked, deadline).await;
            if let Err(MetadataError::Unavailable { .. }) = &operated {
                chronicle.note(format_args!("{by} was not answered within {deadline:?}"));
            }
            record.lock().asked(Request { tenant: tenant(of), by, request, began, action }, operated);
            busy.store(false, Ordering::Relaxed);
        });
    }

    /// Whichever member answers, from what it has applied.
    fn look(&self, at: usize, deadline: Duration) {
        let Operator { client, busy, .. } = &self.operators[at];
        let (client, busy, record) = (client.clone(), Arc::clone(busy), Arc::clone(&self.record));
        busy.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            if let Ok(seen) = client.tenants(deadline).await {
                for tenant in (0..TENANTS).map(tenant) {
                    let status = seen.tenants.iter().find(|status| status.tenant == tenant);
                    let found = status.map(|status| model::Tenant {
                        settings: Settings::from(&status.settings),
                        keys: status.keys.iter().cloned().collect(),
                    });
                    record.lock().saw_some_time_ago(tenant, Answer::Tenant(found));
                }
            }
            if let Ok(seen) = client.leases(deadline).await {
                for tenant in (0..TENANTS).map(tenant) {
                    let its = seen.leases.iter().filter(|lease| lease.tenant == tenant);
                    let tags: BTreeSet<Tag> = its.map(|lease| tag_of(&lease.first)).collect();
                    record.lock().saw_some_time_ago(tenant, Answer::Leases(tags));
                }
            }
            busy.store(false, Ordering::Relaxed);
        });
    }
}

/// Every tenant that there may be.
pub(crate) fn tenants() -> impl Iterator<Item = TenantId> {
    (0..TENANTS).map(tenant)
}

/// A lease that is known by name and number.
pub(crate) type Known = (Tag, LeaseId);
