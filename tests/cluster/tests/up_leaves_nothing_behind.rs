//! One Ctrl-C ends everything that `weft up` started, without a word of complaint, and so does its death.

use rustix::process::Signal;
use weft_cluster_tests::{Cluster, alive, await_that, kill, weft};

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

/// Taking the other's answers for its own children's would report a cluster that isn't there.
#[test]
fn a_second_weft_up_on_the_same_addresses_says_so() {
    let first = Cluster::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let second = std::process::Command::new(weft())
        .args(["up", "--no-replay", "--subnet", first.subnet(), "--state"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(69), "{said}");
    assert!(said.contains("--subnet") && !said.contains("weft is up"), "{said}");
    assert!(first.pids().unwrap().into_iter().all(|(_, pid)| alive(pid)), "the first one is none the worse");
}

/// Restarting what can't start would only repeat it for a minute.
#[test]
fn a_process_that_cannot_start_is_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let up = std::process::Command::new(weft())
        .args(["up", "--no-replay", "--subnet", "127.251.1", "--device-tokens", "1", "--state"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&up.stderr);
    assert_eq!(up.status.code(), Some(69), "{said}");
    assert!(said.contains("device_tokens is 1: expected at least one block"), "{said}");
}
