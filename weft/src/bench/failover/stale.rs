//! A node that is restarted at every kill, and its former selves, which do not know it: they go on reporting, keeping alive and
//! joining under incarnations that are over. Whatever they try after their successor's join was acknowledged must be refused.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weft_index::{Change, ReportAck};
use weft_metadata_client::{MetadataClient, MetadataError};
use weft_metadata_proto::v1::{LookupRequest, method};
use weft_transport::{Fabric, Target};
use weft_types::{HolderGrant, ShardId};

use super::DEADLINE;
use crate::bench::holder::{join, key, node, report};
use crate::bench::members::PATIENCE;

/// Its name.
pub(crate) const NAME: &str = "phoenix";
/// Its blocks, apart from those of other nodes.
const PLACE: usize = usize::MAX;
/// Former selves that still try.
const FORMER_MAX: usize = 8;
/// Between two rounds of them: load enough, and not the whole of it.
const PAUSE: Duration = Duration::from_millis(20);

/// The node and its former selves.
pub(crate) struct Stale {
    client: MetadataClient,
    now: HolderGrant,
    former: Arc<Mutex<Former>>,
    trying: JoinHandle<anyhow::Result<Tried>>,
}

/// What became of what former selves tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Blocks that they reported.
    blocks: u64,
}

/// Grants that are over, oldest first, and the one that is not.
#[derive(Debug, Default)]
struct Former {
    grants: Vec<HolderGrant>,
    current: Option<HolderGrant>,
}

impl Stale {
    pub(crate) async fn start(client: MetadataClient, stop: CancellationToken) -> anyhow::Result<Self> {
        let now = join(&client, &node(NAME, 1)?, DEADLINE).await?;
        let former = Arc::new(Mutex::new(Former::default()));
        let trying = tokio::spawn(try_on(client.clone(), former.clone(), stop));
        Ok(Self { client, now, former, trying })
    }

    /// It restarts: what it was is over.
    pub(crate) async fn renew(&mut self) -> anyhow::Result<()> {
        let next = join(&self.client, &node(NAME, self.now.incarnation.get() + 1)?, DEADLINE).await?;
        let over = std::mem::replace(&mut self.now, next.clone());
        let mut former = self.former.lock();
        former.current = Some(next);
        former.grants.push(over);
        if former.grants.len() > FORMER_MAX {
            former.grants.remove(1);
        }
        Ok(())
    }

    /// Once they were told to stop.
    pub(crate) async fn end(self) -> anyhow::Result<Tried> {
        self.trying.await.context("a former self panicked")?
    }
}

impl Tried {
    /// Blocks of former selves that a member names, of the first and last few thousand.
    pub(crate) async fn found(&self, router: &Fabric, member: Target) -> anyhow::Result<u64> {
        const LOOKED_FOR: u64 = 2_000;
        let mut found = 0;
        let last = self.blocks.saturating_sub(LOOKED_FOR).max(LOOKED_FOR)..self.blocks;
        for block in (0..self.blocks.min(LOOKED_FOR)).chain(last) {
            let request = LookupRequest { shard: ShardId::new(0), prefix: vec![key(PLACE, block)] };
            let answer = router.call::<method::Lookup>(&member, &request, PATIENCE).await?;
            found += u64::from(!answer.matches.is_empty());
        }
        Ok(found)
    }

    fn note(&mut self, accepted: bool) {
        match accepted {
            true => self.accepted += 1,
            false => self.refused += 1,
        }
    }
}

async fn try_on(client: MetadataClient, former: Arc<Mutex<Former>>, stop: CancellationToken) -> anyhow::Result<Tried> {
    let mut tried = Tried::default();
    while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        let (grants, current) = {
            let former = former.lock();
            (former.grants.clone(), former.current.clone())
        };
        let Some(current) = current else { continue };
        for over in grants {
            // Under its own number, and under its successor's, as if it had learnt that but not its incarnation.
            let disguised = HolderGrant { incarnation: over.incarnation, ..current.clone() };
            for grant in [&over, &disguised] {
                let changes = vec![Change::Stored(key(PLACE, tried.blocks))];
                tried.blocks += 1;
                match client.report(&[report(grant, 1, changes)], DEADLINE).await?[..] {
                    [ReportAck::Fenced] => tried.note(false),
                    [_] => tried.note(true),
                    ref other => bail!("one report was answered {other:?}"),
                }
            }
            tried.note(client.keep_alive(&NAME.parse()?, over.incarnation, DEADLINE).await?);
            match client.join(&node(NAME, over.incarnation.get())?, DEADLINE).await {
                Ok(_) => tried.note(true),
                Err(MetadataError::Refused(_)) => tried.note(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(tried)
}
