//! A metadata group that is gone comes back: all of it from a backup, then, with two of three lost, from the one that is left.
//! Nodes and engines find their way into the new group by themselves.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use weft_cluster_tests::Cluster;

/// Starts the first member of a new group, and takes in the others, empty.
fn begin_with(cluster: &mut Cluster, first: u64, others: [u64; 2]) {
    cluster.start_again(&format!("metadata-{first}")).unwrap();
    for other in others {
        cluster.start_again(&format!("metadata-{other}")).unwrap();
        cluster.operator(&["metadata", "add", &other.to_string(), &cluster.member_addr(other)]).unwrap();
    }
    cluster
        .await_status("everybody is in the new group", |status| {
            let members = status["members"].as_array()?;
            let of = |what: &str| status[what].as_array().map(Vec::len);
            let well = members.len() == 3 && members.iter().all(|member| member["applied"].is_u64());
            (well && of("nodes") == Some(2) && of("endpoints") == Some(4)).then_some(())
        })
        .unwrap();
}

fn lose(cluster: &mut Cluster, members: &[u64]) {
    for member in members {
        cluster.kill_and_wait(&format!("metadata-{member}")).unwrap();
        std::fs::remove_dir_all(cluster.member_data(*member)).unwrap();
    }
}

#[test]
fn it_comes_back_from_a_backup_and_then_from_the_last_member() {
    let mut cluster = Cluster::start(&[]).unwrap();
    cluster.operator(&["tenant", "add", "acme"]).unwrap();
    let file = cluster.state().join("group.weft");
    let path = file.to_str().unwrap();
    cluster.operator(&["metadata", "backup", path]).unwrap();
    // What is agreed after a backup is not in it.
    cluster.operator(&["tenant", "add", "late"]).unwrap();
    lose(&mut cluster, &[1, 2, 3]);

    let restored = cluster.offline(&["metadata", "restore", path], &cluster.member_config(1)).unwrap();
    assert_eq!(restored["member"], 1, "{restored}");
    begin_with(&mut cluster, 1, [2, 3]);
    let tenants = cluster.operator(&["tenant", "list"]).unwrap().to_string();
    assert!(tenants.contains("acme") && !tenants.contains("late"), "{tenants}");

    // A refusal while a majority could still come back: nothing is given up by accident.
    lose(&mut cluster, &[1, 2]);
    cluster.kill_and_wait("metadata-3").unwrap();
    let refused = cluster.offline(&["metadata", "recover"], &cluster.member_config(3)).unwrap_err();
    assert!(refused.to_string().contains("--force-single"), "{refused}");
    cluster.offline(&["metadata", "recover", "--force-single"], &cluster.member_config(3)).unwrap();
    begin_with(&mut cluster, 3, [1, 2]);
    let tenants = cluster.operator(&["tenant", "list"]).unwrap().to_string();
    assert!(tenants.contains("acme"), "what the last member had is there: {tenants}");
}
