//! SIGKILL of the metadata leader in the middle of a replay: no request fails, what was acknowledged is there, and another
//! member leads.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Instant;

use weft_cluster_tests::{Cluster, Replay, await_that};

/// Waits until one of the members says that it leads.
fn leader(cluster: &Cluster, among: &[u64]) -> u64 {
    let leads = |number: &&u64| cluster.member(**number).is_ok_and(|member| member["state"] == "Leader");
    await_that("a member leads", || Ok(among.iter().find(leads).copied())).unwrap()
}

#[test]
fn a_replay_survives_the_death_of_the_leader() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let old = leader(&cluster, &[1, 2, 3]);
    let replay = Replay::start(&cluster, 200, "20s").unwrap();
    replay.answered(60.0).unwrap();
    let before = cluster.status().unwrap();
    let (blocks, nodes) = (before["blocks"].as_u64().unwrap(), before["nodes"].as_array().unwrap().len());
    assert!(blocks > 0, "the replay has stored blocks: {before}");

    cluster.kill(&format!("metadata-{old}")).unwrap();
    let killed = Instant::now();
    let others: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    let new = leader(&cluster, &others);
    // Told, not asserted: how long an election takes on a busy machine says nothing of the code. `--nocapture` shows it.
    eprintln!("member {new} leads {:?} after member {old} was killed", killed.elapsed());

    // The host memory is larger than the workload, so that nothing acknowledged may be missing.
    cluster
        .await_status("what was acknowledged is there", |status| (status["blocks"].as_u64()? >= blocks).then_some(()))
        .unwrap();
    let after = cluster.status().unwrap();
    assert_eq!(after["nodes"].as_array().unwrap().len(), nodes, "nobody was expired by the change");
    assert_eq!(after["endpoints"].as_array().unwrap().len(), 4);

    let report = replay.finish().unwrap();
    assert_eq!((&report["failures"], &report["requests"]), (&0.0.into(), &200.0.into()), "{report}");
    assert!(report["verified_bytes"].as_f64().unwrap() > 0.0, "blocks were loaded: {report}");

    // Reports went on to the new leader: the index has grown since.
    cluster
        .await_status("new blocks are indexed", |status| (status["blocks"].as_u64()? > blocks).then_some(()))
        .unwrap();
    // The old leader comes back as a follower and catches up.
    cluster.start_again(&format!("metadata-{old}")).unwrap();
    cluster
        .await_status("the old leader follows", |status| {
            let members = status["members"].as_array()?;
            let newest = members.iter().filter_map(|member| member["applied"].as_u64()).max()?;
            let member = members.iter().find(|member| member["id"].as_u64() == Some(old))?;
            (member["state"] == "Follower" && member["applied"].as_u64()? >= newest).then_some(())
        })
        .unwrap();
}
