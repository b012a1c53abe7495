//! Two tenants that live as long as an audit.

use anyhow::{Context, bail};
use weft_types::{ApiKey, Operated, OperatorAction, TenantId, TenantSettings};

use crate::cluster::Cluster;
use crate::tenant::operate;

/// The one whose blocks are looked for, and the one who looks.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) a: Subject,
    pub(super) b: Subject,
}

/// One tenant, with its secrets.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) tenant: TenantId,
    pub(super) key: String,
    pub(super) salt: String,
}

impl Pair {
    /// Makes both; if one cannot be made, none is left.
    pub(super) async fn make(cluster: &Cluster) -> anyhow::Result<Self> {
        let mark = rand::random::<u32>();
        let a = Subject::make(cluster, &format!("audit-{mark:08x}-a")).await?;
        match Subject::make(cluster, &format!("audit-{mark:08x}-b")).await {
            Ok(b) => Ok(Self { a, b }),
            Err(error) => {
                a.remove(cluster).await?;
                Err(error)
            }
        }
    }

    /// Removes both, with their keys.
    pub(super) async fn remove(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let removed = [self.a.remove(cluster).await, self.b.remove(cluster).await];
        removed.into_iter().collect()
    }
}

impl Subject {
    async fn make(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let tenant: TenantId = name.parse().context("a made-up name is a name")?;
        let settings = TenantSettings::default();
        operate(cluster, OperatorAction::PutTenant { tenant: tenant.clone(), settings, unsalted: false }).await?;
        let key = ApiKey::new(name.parse().context("a made-up name is a name")?, rand::random());
        let mut subject = Self { tenant, key: key.reveal(), salt: String::new() };
        if let Err(error) = subject.equip(cluster, &key).await {
            subject.remove(cluster).await?;
            return Err(error);
        }
        Ok(subject)
    }

    /// With a key and the salt.
    async fn equip(&mut self, cluster: &Cluster, key: &ApiKey) -> anyhow::Result<()> {
        let tenant = self.tenant.clone();
        let add = OperatorAction::AddKey { tenant: tenant.clone(), key: key.id().clone(), hash: key.hash() };
        operate(cluster, add).await?;
        self.salt = match operate(cluster, OperatorAction::ReadSalt { tenant }).await? {
            Operated::Salt(Some(salt)) => salt.reveal(),
            other => bail!("a salt was asked for, and metadata answered {other:?}: is it of another release?"),
        };
        Ok(())
    }

    async fn remove(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let removed = operate(cluster, OperatorAction::RemoveTenant { tenant: self.tenant.clone() }).await;
        removed.map(|_| ()).with_context(|| format!("tenant {0} is left behind: `weft tenant remove {0}`", self.tenant))
    }
}
