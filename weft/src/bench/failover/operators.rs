//! Operators that ask without end: a tenant's quota changes, a lease is granted, the oldest one released.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_metadata_client::MetadataClient;
use weft_types::{ByteSize, IndexKey, LeaseId, Operated, OperatorAction, TenantId, TenantSettings, Tier};

use super::DEADLINE;
use super::journal::Journal;
use super::promises::Promises;

/// Tenants of one operator.
const TENANTS: usize = 8;
/// Leases of one operator, before it releases the oldest.
const LEASES: usize = 64;
/// Blocks of a lease.
const LEASE_BLOCKS: u32 = 16;
/// Longer than any run.
const TTL: Duration = Duration::from_secs(3600);

/// One of them; it has one request on its way at a time.
pub(crate) struct Operator {
    client: MetadataClient,
    tenants: Vec<TenantId>,
    leases: VecDeque<LeaseId>,
    dice: ChaCha8Rng,
    promises: Promises,
}

impl Operator {
    pub(crate) fn new(client: MetadataClient, number: usize) -> Self {
        let tenant =
            |tenant| format!("tenant-{number}-{tenant}").parse().expect("letters, digits and dashes are a name");
        Self {
            client,
            tenants: (0..TENANTS).map(tenant).collect(),
            leases: VecDeque::new(),
            dice: ChaCha8Rng::seed_from_u64(number as u64),
            promises: Promises::default(),
        }
    }

    /// Until told to stop; returns what was acknowledged.
    pub(crate) async fn run(
        mut self,
        journal: Arc<Journal>,
        place: usize,
        stop: CancellationToken,
    ) -> anyhow::Result<Promises> {
        for turn in 0.. {
            if stop.is_cancelled() {
                break;
            }
            let begun = Instant::now();
            match turn % 3 {
                0 => self.put_tenant(turn).await?,
                1 => self.grant(turn).await?,
                _ if self.leases.len() > LEASES => self.release().await?,
                _ => continue,
            }
            journal.acknowledged(place, begun, Instant::now());
        }
        Ok(self.promises)
    }

    async fn put_tenant(&mut self, turn: usize) -> anyhow::Result<()> {
        let tenant = self.tenant(turn);
        let quota = [(Tier::Host, ByteSize::from_mib(1 + turn as u64))].into();
        let settings = TenantSettings { quota, ..TenantSettings::default() };
        let action = OperatorAction::PutTenant { tenant: tenant.clone(), settings: settings.clone(), unsalted: false };
        match self.client.operate(action, DEADLINE).await? {
            Operated::Done => self.promises.tenants.insert(tenant, settings),
            other => bail!("a tenant was answered {other:?}"),
        };
        Ok(())
    }

    async fn grant(&mut self, turn: usize) -> anyhow::Result<()> {
        // The one that was put just before.
        let tenant = self.tenant(turn - 1);
        let prefix = (0..LEASE_BLOCKS).map(|_| IndexKey::from_bytes(self.dice.random())).collect();
        let action = OperatorAction::GrantLease { tenant: tenant.clone(), prefix, ttl: TTL };
        match self.client.operate(action, DEADLINE).await? {
            Operated::Leased { lease, .. } => {
                self.promises.leases.insert(lease, (tenant, LEASE_BLOCKS));
                self.leases.push_back(lease);
            }
            other => bail!("a lease was answered {other:?}"),
        }
        Ok(())
    }

    async fn release(&mut self) -> anyhow::Result<()> {
        let Some(lease) = self.leases.pop_front() else { return Ok(()) };
        self.client.operate(OperatorAction::ReleaseLease { lease }, DEADLINE).await?;
        self.promises.leases.remove(&lease);
        self.promises.released.insert(lease);
        Ok(())
    }

    fn tenant(&self, turn: usize) -> TenantId {
        self.tenants[turn / 3 % TENANTS].clone()
    }
}
