//! One Ctrl-C ends everything that `weft up` started, without a word of complaint, and so does its death.

use rustix::process::Signal;
use weft_cluster_tests::{Cluster, alive, await_that, kill};

#[test]
fn one_interrupt_ends_every_process() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let pids = cluster.pids().unwrap();
    assert_eq!(pids.len(), 10, "3 members, 2 nodes, 4 engines, 1 router: {pids:?}");
    assert_eq!(cluster.interrupt().unwrap(), Some(0));
    let left: Vec<_> = pids.into_iter().filter(|(_, pid)| alive(*pid)).collect();
    assert!(left.is_empty(), "still running: {left:?}");
    assert!(!cluster.state().join("data").exists(), "data of a demonstration goes with it");
    assert!(!cluster.state().join("up.json").exists());

    // Lines begin with the time: what was said since the first process was told to end.
    let logs: Vec<_> = cluster.logs().unwrap().lines().map(str::to_owned).collect();
    let first = logs.iter().filter(|line| line.contains("SIGTERM")).min().unwrap();
    let complaints: Vec<_> = logs.iter().filter(|line| *line >= first && !line.contains(" INFO ")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn killing_weft_up_ends_its_children_too() {
    let cluster = Cluster::start(&[]).unwrap();
    let pids = cluster.pids().unwrap();
    kill(cluster.pid(), Signal::KILL).unwrap();
    await_that("every child is gone", || Ok(pids.iter().all(|(_, pid)| !alive(*pid)).then_some(()))).unwrap();
}
