//! What tenants were promised: it outlives the leader that promised it, is promised once, and ends in log time.

use std::time::Duration;

use weft_metadata_proto::v1::{
    AuditRequest, LeasesRequest, OperateRequest, Reply, TenantsRequest, WatchItem, WatchRequest, WatchScope, method,
};
use weft_metadata_state::DirectoryChange;
use weft_transport::{CallError, RefusalCode};
use weft_types::{LeaseId, Operated, OperatorAction, RequestId, Role, TenantSettings};

use crate::cluster::{Caller, Cluster, PATIENCE, SHARD, keys};

fn request(number: u64, action: OperatorAction) -> OperateRequest {
    OperateRequest { shard: SHARD, request: RequestId::new(number), action }
}

fn put_tenant(lease_blocks_max: u32) -> OperatorAction {
    let settings = TenantSettings { lease_blocks_max, ..TenantSettings::default() };
    OperatorAction::PutTenant { tenant: "acme".parse().unwrap(), settings, unsalted: false }
}

fn grant(blocks: u64, seconds: u64) -> OperatorAction {
    OperatorAction::GrantLease {
        tenant: "acme".parse().unwrap(),
        prefix: keys(blocks),
        ttl: Duration::from_secs(seconds),
    }
}

async fn lease(admin: &Caller, request: &OperateRequest) -> LeaseId {
    match admin.ask::<method::Operate, _>(request).await {
        Operated::Leased { lease, .. } => lease,
        other => panic!("a lease expected, got {other:?}"),
    }
}

/// Leases as the member that leads has them.
async fn leases(cluster: &Cluster, admin: &Caller) -> Vec<(u64, u32)> {
    let leader = cluster.leader().await;
    let answer = admin.call::<method::Leases>(leader, &LeasesRequest { shard: SHARD }).await.unwrap();
    answer.leases.iter().map(|lease| (lease.lease.get(), lease.blocks)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_its_leader_and_a_grant_sent_twice_to_two_leaders_is_granted_once() {
    let mut cluster = Cluster::start(|_| {}).await;
    let admin = cluster.caller(Role::Admin, "ops");
    assert_eq!(admin.ask::<method::Operate, _>(&request(1, put_tenant(4))).await, Operated::Done);
    let sent = request(2, grant(3, 3600));
    let granted = lease(&admin, &sent).await;

    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    assert_eq!(lease(&admin, &sent).await, granted, "the next leader knows what the first did");
    assert_eq!(leases(&cluster, &admin).await, [(granted.get(), 3)]);

    let leader = cluster.leader().await;
    match admin.call::<method::Operate>(leader, &request(3, grant(5, 3600))).await.unwrap() {
        Reply::Refused(reason) => {
            assert!(
                reason.contains("5 blocks asked, 2 of them not pinned yet; tenant acme has 3 of at most 4"),
                "{reason}"
            );
        }
        other => panic!("a refusal expected, got {other:?}"),
    }
    let audit = admin.call::<method::Audit>(leader, &AuditRequest { shard: SHARD, last: 2 }).await.unwrap();
    let lines: Vec<String> = audit.entries.iter().map(|entry| format!("{} {}", entry.by, entry.what)).collect();
    assert_eq!(
        lines,
        ["admin/ops pin 3 blocks for tenant acme for 3600s", "admin/ops pin 5 blocks for tenant acme for 3600s"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_ends_a_lease_that_is_due_and_a_node_hears_of_it_without_secrets() {
    let cluster = Cluster::start(|_| {}).await;
    let (admin, node) = (cluster.caller(Role::Admin, "ops"), cluster.caller(Role::Node, "n1"));
    admin.ask::<method::Operate, _>(&request(1, put_tenant(4))).await;
    let leader = cluster.leader().await;
    let watched = WatchRequest { shard: SHARD, resume: None, scope: WatchScope::Accounts, filter: None };
    let target = node.target(leader);
    let watching = node.fabric().subscribe::<method::Watch>(&target, &watched, PATIENCE);
    let mut watch = watching.await.unwrap();
    let granted = lease(&admin, &request(2, grant(3, 1))).await;

    let heard = async {
        let mut heard = Vec::new();
        while !heard.contains(&DirectoryChange::Lease(granted, None)) {
            match watch.next().await.unwrap().expect("the watch goes on") {
                WatchItem::SnapshotAccounts(changes) | WatchItem::Changes { changes, .. } => heard.extend(changes),
                WatchItem::SnapshotBegin { roster, .. } => assert_eq!(roster, Default::default()),
                WatchItem::SnapshotEnd | WatchItem::Heartbeat { .. } => {}
                other => panic!("a node heard {other:?}"),
            }
        }
        heard
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.expect("the lease never ended");
    let tenants = heard.iter().filter_map(|change| match change {
        DirectoryChange::Tenant(_, Some(tenant)) => Some(tenant.secrets.is_none()),
        _ => None,
    });
    assert_eq!(tenants.collect::<Vec<_>>(), [true]);
    assert!(heard.iter().any(|change| matches!(change, DirectoryChange::Lease(id, Some(_)) if *id == granted)));
    assert_eq!(leases(&cluster, &admin).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_change_and_only_routers_watch_everything() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let forbidden = |answer: Result<(), CallError>| match answer {
        Err(CallError::Refused { refusal, .. }) => assert_eq!(refusal.code, RefusalCode::Forbidden),
        other => panic!("a refusal expected, got {other:?}"),
    };
    for (role, name) in [(Role::Node, "n1"), (Role::Router, "r1")] {
        let caller = cluster.caller(role, name);
        forbidden(caller.call::<method::Operate>(leader, &request(1, put_tenant(4))).await.map(drop));
        forbidden(caller.call::<method::Tenants>(leader, &TenantsRequest { shard: SHARD }).await.map(drop));
    }
    let node = cluster.caller(Role::Node, "n1");
    let watched = WatchRequest { shard: SHARD, resume: None, scope: WatchScope::Directory, filter: None };
    let mut watch = match node.fabric().subscribe::<method::Watch>(&node.target(leader), &watched, PATIENCE).await {
        Ok(watch) => watch,
        Err(error) => return forbidden(Err(error)),
    };
    forbidden(watch.next().await.map(drop));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_lease_runs_out_while_nothing_else_happens() {
    let cluster = Cluster::start(|_| {}).await;
    let admin = cluster.caller(Role::Admin, "ops");
    admin.ask::<method::Operate, _>(&request(1, put_tenant(4))).await;
    lease(&admin, &request(2, grant(3, 3600))).await;
    let leader = cluster.leader().await;
    let left = async || {
        let answer = admin.call::<method::Leases>(leader, &LeasesRequest { shard: SHARD }).await.unwrap();
        (answer.applied, answer.leases[0].left)
    };
    let (applied, first) = left().await;
    let shrunk = async {
        loop {
            let (now, left) = left().await;
            if left < first {
                return now;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, shrunk).await.unwrap(), applied, "no entry was needed to tell the time");
}
