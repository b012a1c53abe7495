//! What stands between a node and the group: to the node it is a metadata member, to the leader it is the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::time::Instant;
use weft_index::Digests;
use weft_metadata_client::MetadataClient;
use weft_metadata_proto::v1::{Reply, ReportRequest, method};
use weft_transport::{Fabric, Refusal, RefusalCode, Routes, Target};
use weft_types::rpc::{Message, Method};
use weft_types::{HolderGrant, HolderKey, Role, Tier};

use super::faults::{Fate, Fault, Faults};
use super::subject::NODE;
use crate::bench::members::Members;

/// Longest wait for the leader.
const DEADLINE: Duration = Duration::from_secs(5);
const NODES: &[Role] = &[Role::Node];

/// A running one.
pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    client: MetadataClient,
    /// Serves as long as it is held.
    _fabric: Fabric,
}

/// What went through, of the host tier's reports and comparisons alike.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// Encoded reports that were sent, whatever became of them.
    pub(crate) report_bytes: u64,
    /// Of these, the ones that replace what is listed.
    pub(crate) repair_bytes: u64,
    /// Requests and answers.
    pub(crate) digest_bytes: u64,
    /// Comparisons that found a difference.
    pub(crate) found: u64,
    /// Calls that lost their reports.
    pub(crate) lost: u64,
}

struct Shared {
    leader: Target,
    to_leader: Fabric,
    faults: Mutex<Faults>,
    carried: Mutex<Carried>,
    /// When the leader last answered a report.
    answered: Mutex<Option<Instant>>,
    /// Of the node's host tier, the latest.
    grant: Mutex<Option<HolderGrant>>,
}

impl Proxy {
    pub(crate) async fn start(members: &Members) -> anyhow::Result<Self> {
        let leader = members.leader(&members.caller(Role::Admin, "operator")?).await?;
        let shared = Arc::new(Shared {
            leader: members.target(leader),
            to_leader: members.caller(Role::Node, NODE)?,
            faults: Mutex::new(Faults::new()),
            carried: Mutex::default(),
            answered: Mutex::default(),
            grant: Mutex::default(),
        });
        let fabric = members.caller(Role::Metadata, "proxy")?;
        fabric.serve(routes(&shared));
        let client = MetadataClient::new(members.caller(Role::Node, NODE)?, vec![members.addrs()[leader]]);
        Ok(Self { addr: fabric.local_addr(), shared, client, _fabric: fabric })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.faults.lock().set(fault);
    }

    /// What went through since this was last called.
    pub(crate) fn take(&self) -> Carried {
        std::mem::take(&mut *self.shared.carried.lock())
    }

    /// Until the leader answered the last report that it had: what is right later has been right since then.
    pub(crate) fn until_last_report(&self, since: Instant) -> Duration {
        self.shared.answered.lock().map_or(Duration::ZERO, |last| last.saturating_duration_since(since))
    }

    /// Partitions in which the leader's list of the node's host tier is not this; it is not asked through the proxy.
    pub(crate) async fn differing(&self, held: &Digests) -> anyhow::Result<usize> {
        let grant = self.shared.grant.lock().clone().context("the node has not joined")?;
        // While the node joins again, nothing is listed.
        let Some(listed) = self.client.digests(&grant, held, DEADLINE).await? else { return Ok(Digests::GROUPS) };
        let groups = listed.differing.iter();
        Ok(groups.map(|group| held.differing(usize::from(group.group), &group.sums).count()).sum())
    }
}

fn routes(shared: &Arc<Shared>) -> Routes {
    let routes = forward::<method::KeepAlive>(Routes::new(), shared);
    let routes = forward::<method::Leave>(routes, shared);
    let routes = forward::<method::PutEndpoint>(routes, shared);
    let routes = forward::<method::RemoveEndpoint>(routes, shared);
    let routes = forward::<method::Lookup>(routes, shared);
    let routes = forward::<method::Roster>(routes, shared);
    let (joins, reports, digests) = (shared.clone(), shared.clone(), shared.clone());
    routes
        .rpc::<method::Join, _, _>(NODES, move |_, request| {
            let shared = joins.clone();
            async move {
                let answer = shared.call::<method::Join>(&request).await?;
                if let Reply::Done(joined) = &answer {
                    let host = |grant: &&HolderGrant| matches!(grant.key, HolderKey::Node { tier: Tier::Host, .. });
                    *shared.grant.lock() = joined.grants.iter().find(host).cloned();
                }
                Ok(answer)
            }
        })
        .rpc::<method::Report, _, _>(NODES, move |_, request| {
            let shared = reports.clone();
            async move { shared.report(request).await }
        })
        .rpc::<method::Digests, _, _>(NODES, move |_, request| {
            let shared = digests.clone();
            async move {
                let answer = shared.call::<method::Digests>(&request).await?;
                let mut carried = shared.carried.lock();
                carried.digest_bytes += (request.encode().len() + answer.encode().len()) as u64;
                let differs = matches!(&answer, Reply::Done(Some(digests)) if !digests.differing.is_empty());
                carried.found += u64::from(differs);
                drop(carried);
                Ok(answer)
            }
        })
}

fn forward<M: Method>(routes: Routes, shared: &Arc<Shared>) -> Routes {
    let shared = shared.clone();
    routes.rpc::<M, _, _>(NODES, move |_, request| {
        let shared = shared.clone();
        async move { shared.call::<M>(&request).await }
    })
}

impl Shared {
    async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Response, Refusal> {
        let answer = self.to_leader.call::<M>(&self.leader, request, DEADLINE).await;
        answer.map_err(|error| Refusal::new(RefusalCode::Failed, error.to_string()))
    }

    async fn report(&self, mut request: ReportRequest) -> Result<<method::Report as Method>::Response, Refusal> {
        let fate = self.faults.lock().fate(&request.reports);
        {
            let mut carried = self.carried.lock();
            carried.lost += u64::from(matches!(fate, Fate::Instead(_) | Fate::Answer(_)));
            for report in &request.reports {
                let bytes = report.encoded_len() as u64;
                carried.report_bytes += bytes;
                carried.repair_bytes += if report.form.replaces.is_some() { bytes } else { 0 };
            }
        }
        match fate {
            Fate::Carry => {}
            Fate::Instead(reports) => request.reports = reports,
            Fate::Answer(acks) => return Ok(Reply::Done(acks)),
            // The caller gives up, and this with it.
            Fate::Silence => std::future::pending().await,
        }
        let answer = self.call::<method::Report>(&request).await?;
        *self.answered.lock() = Some(Instant::now());
        Ok(answer)
    }
}
