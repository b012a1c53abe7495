//! The group changed by command, as an operator would: a member whose disk is gone is replaced, comes back empty under its old
//! id, leadership is handed to the one that came, and that one goes again.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use serde_json::Value;
use weft_cluster_tests::{Cluster, await_that, get};

/// Ids and roles of the group, by `weft metadata list`.
fn list(cluster: &Cluster) -> Vec<(u64, String)> {
    let listed = cluster.operator(&["metadata", "list"]).unwrap();
    let member = |member: &Value| (member["id"].as_u64().unwrap(), member["role"].as_str().unwrap().to_owned());
    listed["members"].as_array().unwrap().iter().map(member).collect()
}

fn ids(cluster: &Cluster) -> Vec<u64> {
    list(cluster).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_member_without_its_disk_is_replaced_and_comes_back_and_the_new_one_leads_and_goes() {
    let mut cluster = Cluster::start(&[]).unwrap();
    assert_eq!(ids(&cluster), [1, 2, 3]);

    cluster.kill_and_wait("metadata-2").unwrap();
    std::fs::remove_dir_all(cluster.member_data(2)).unwrap();
    cluster.prepare_member(4).unwrap();
    cluster.start_again("metadata-4").unwrap();
    cluster.operator(&["metadata", "replace", "2", "4", &cluster.member_addr(4)]).unwrap();
    assert_eq!(ids(&cluster), [1, 3, 4]);

    // Under its old id, empty: it takes no part until it is taken in.
    cluster.start_again("metadata-2").unwrap();
    await_that("member 2 is up", || Ok(cluster.member(2).ok())).unwrap();
    assert_eq!(ids(&cluster), [1, 3, 4]);
    cluster.operator(&["metadata", "add", "2", &cluster.member_addr(2)]).unwrap();
    assert_eq!(ids(&cluster), [1, 2, 3, 4]);

    cluster.operator(&["metadata", "transfer-leader", "4"]).unwrap();
    await_that("member 4 leads", || Ok(list(&cluster).contains(&(4, "leader".to_owned())).then_some(()))).unwrap();
    // The leader goes: it hands over first.
    cluster.operator(&["metadata", "remove", "4"]).unwrap();
    await_that("another leads", || Ok(list(&cluster).iter().any(|(_, role)| role == "leader").then_some(()))).unwrap();
    assert_eq!(ids(&cluster), [1, 2, 3]);
    // Whoever depends on the group hardly noticed.
    let status = cluster.status().unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2, "{status}");
}

#[test]
fn the_founder_without_its_disk_says_what_to_run_and_that_brings_it_back() {
    let mut cluster = Cluster::start(&[]).unwrap();
    cluster.operator(&["tenant", "add", "acme"]).unwrap();
    // The member that would form a group, if there were none.
    cluster.kill_and_wait("metadata-1").unwrap();
    std::fs::remove_dir_all(cluster.member_data(1)).unwrap();
    cluster.start_again("metadata-1").unwrap();
    let ready = format!("http://{}.11:7401/ready", cluster.subnet());
    let said = await_that("it says what to run", || match get(&ready) {
        Ok((503, said)) if said.contains("what member 1 had promised is gone") => Ok(Some(said)),
        _ => Ok(None),
    })
    .unwrap();
    let commands: Vec<Vec<&str>> = said
        .split('`')
        .filter_map(|quoted| quoted.strip_prefix("weft "))
        .map(|command| command.split_whitespace().collect())
        .collect();
    assert_eq!(commands.len(), 2, "{said}");
    for command in commands {
        cluster.operator(&command).unwrap();
    }
    assert_eq!(ids(&cluster), [1, 2, 3]);
    await_that("it takes part", || Ok(matches!(get(&ready), Ok((200, _))).then_some(()))).unwrap();
    let tenants = cluster.operator(&["tenant", "list"]).unwrap().to_string();
    assert!(tenants.contains("acme"), "the group is the one that was: {tenants}");
}
