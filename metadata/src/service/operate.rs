//! Operators: what they change goes through the log with their name, and what they read is applied state without secrets.

use weft_metadata_proto::v1::{
    AuditRequest, AuditResponse, LeaseStatus, LeasesRequest, LeasesResponse, OperateRequest, Reply, RevokedRequest,
    RevokedResponse, RevokedStatus, TenantStatus, TenantsRequest, TenantsResponse,
};
use weft_metadata_state::{Command, Directory, Outcome};
use weft_transport::Peer;
use weft_types::{Asker, Lease, LogTime, NodeId, Operated, OperatorAction, Salt, Tenant, TenantId};

use super::{Answer, Service, reply};

impl Service {
    pub(super) async fn operate(&self, peer: &Peer, request: OperateRequest) -> Answer<Reply<Operated>> {
        let Some(leadership) = self.group.leadership() else {
            return Ok(Reply::NotLeader { leader: self.group.leader_addr() });
        };
        if let OperatorAction::RemoveNode { node } = &request.action
            && let Some(reason) = self.may_live(leadership, node)
        {
            tracing::info!(by = %peer.name, %node, reason, "a node that may live is not removed");
            return Ok(Reply::Refused(reason));
        }
        let by = Asker { role: peer.role, name: peer.name.clone() };
        let OperateRequest { request, action, .. } = request;
        // Every replica must come to the same salt, so the command brings one whether it is needed or not.
        let salt = Salt::from_bytes(crate::runtime::random_bytes());
        let operated = |outcome| match outcome {
            Outcome::Operated(operated) => Some(operated),
            _ => None,
        };
        let (who, what) = (by.clone(), action.to_string());
        let proposed = self.propose(|at| Command::Operator { at, by, request, salt, action }).await?;
        let reply = reply(proposed, operated)?;
        match &reply {
            Reply::Done(_) => {
                self.metrics.operator_requests.with_label_values(&["done"]).inc();
                tracing::info!(by = %who, what, "an operator's request was done");
            }
            Reply::Refused(reason) => {
                self.metrics.operator_requests.with_label_values(&["refused"]).inc();
                tracing::info!(by = %who, what, reason, "an operator's request was refused");
            }
            Reply::NotLeader { .. } | Reply::Conflict(_) => {}
        }
        Ok(reply)
    }

    /// Why the node may be alive. That is known to the leader only, and so is not for the log to say.
    fn may_live(&self, leadership: u64, node: &NodeId) -> Option<String> {
        let listed = self.group.machine.glance().roster.nodes.contains_key(node);
        let left = self.liveness.left(leadership, node, tokio::time::Instant::now()).filter(|_| listed)?;
        Some(format!(
            "node {node} may be alive: it kept alive, or its leader is new. Stop it if it runs, and it leaves by itself; if its \
             host is gone, its lease runs out in {left:.1?}, and then it can be removed"
        ))
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    pub(super) async fn tenants(&self, _peer: &Peer, _request: TenantsRequest) -> Answer<TenantsResponse> {
        let state = self.group.machine.state();
        let tenants = state.directory.accounts().tenants();
        Ok(TenantsResponse {
            applied: state.index(),
            tenants: tenants.all().iter().map(|(id, tenant)| tenant_status(&state.directory, id, tenant)).collect(),
            groups: tenants.groups().iter().map(|(id, group)| (id.clone(), group.without_secrets())).collect(),
        })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    pub(super) async fn leases(&self, _peer: &Peer, _request: LeasesRequest) -> Answer<LeasesResponse> {
        let state = self.group.machine.state();
        let now = self.now(&state.directory);
        let status = |(id, lease): (&weft_types::LeaseId, &Lease)| {
            let first = *lease.prefix.first()?;
            let blocks = count(lease.prefix.len());
            Some(LeaseStatus { lease: *id, tenant: lease.tenant.clone(), first, blocks, left: lease.until.since(now) })
        };
        let leases = state.directory.accounts().leases().all().iter().filter_map(status).collect();
        Ok(LeasesResponse { applied: state.index(), leases })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    pub(super) async fn audit(&self, _peer: &Peer, request: AuditRequest) -> Answer<AuditResponse> {
        let state = self.group.machine.state();
        let entries = state.directory.accounts().audit();
        let skipped = entries.len().saturating_sub(request.last as usize);
        let entries = entries.skip(skipped).cloned().collect();
        Ok(AuditResponse { applied: state.index(), log_time: self.now(&state.directory), entries })
    }

    #[expect(clippy::unused_async, reason = "handlers have one shape")]
    pub(super) async fn revoked(&self, _peer: &Peer, _request: RevokedRequest) -> Answer<RevokedResponse> {
        let state = self.group.machine.state();
        let lines = state.directory.accounts().revoked().iter();
        let line = |(serial, line): (&weft_types::Serial, &weft_metadata_state::Revocation)| RevokedStatus {
            serial: serial.clone(),
            at: line.at,
            reason: line.reason.clone(),
        };
        let revoked = lines.map(line).collect();
        Ok(RevokedResponse { applied: state.index(), log_time: self.now(&state.directory), revoked })
    }

    /// The group's time. Only the leader has a clock: elsewhere it is that of the last entry, which an idle group leaves behind.
    fn now(&self, directory: &Directory) -> LogTime {
        match self.group.leadership() {
            Some(_) => self.group.log_time(),
            None => directory.log_time(),
        }
    }
}

fn tenant_status(directory: &Directory, id: &TenantId, tenant: &Tenant) -> TenantStatus {
    let leases = directory.accounts().leases();
    let secrets = tenant.secrets.as_ref();
    TenantStatus {
        tenant: id.clone(),
        settings: tenant.settings.clone(),
        salted: secrets.is_some_and(|secrets| secrets.salt.is_some()),
        keys: secrets.map(|secrets| secrets.keys.keys().cloned().collect()).unwrap_or_default(),
        leases: count(leases.all().values().filter(|lease| lease.tenant == *id).count()),
        pinned_blocks: count(leases.pinned_by(id)),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
