//! Whole runs: what must come out whatever the rule is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use weft_route_sim::{Engine, Host, NAMES, Run, Setup, Turn, Workload, rule, simulate};

/// Sessions of growing prompts behind one shared block, `gap_s` apart.
fn sessions(count: u64, turns: u64, gap_s: f64) -> Workload {
    let mut all = Vec::new();
    for number in 0..count * turns {
        let (session, turn) = (number % count, number / count);
        let own = (0..4 * (turn + 1)).map(|block| 1 + session * 1_000 + block);
        let blocks: Vec<u64> = std::iter::once(0).chain(own).collect();
        let after_s = number as f64 * gap_s;
        let input_tokens = blocks.len() as u32 * 512 + 7;
        all.push(Turn { after_s, session: None, input_tokens, output_tokens: 50, blocks });
    }
    Workload::new(all, 512, u32::MAX)
}

fn run(name: &str, setup: &Setup, workload: &Workload) -> Run {
    simulate(setup, workload, &mut *rule(name, setup, workload).unwrap(), 1)
}

#[test]
fn one_replica_with_room_for_everything_reaches_the_bound_under_every_rule() {
    let workload = sessions(20, 5, 1.0);
    let setup =
        Setup { replicas: 1, engine: Engine { device_tokens: 1 << 30, ..Engine::default() }, ..Setup::default() };
    for name in NAMES {
        let run = run(name, &setup, &workload);
        assert_eq!(run.ttft_s.len(), workload.requests.len(), "{name}: every request is answered");
        assert!((run.hit_rate() - workload.bound()).abs() < 1e-9, "{name}: {} {}", run.hit_rate(), workload.bound());
    }
}

#[test]
fn an_idle_engine_takes_its_overhead_and_its_tokens() {
    let workload = sessions(1, 1, 1.0);
    let run = run("round-robin", &Setup::default(), &workload);
    assert!((run.mean_s() - (0.005 + 2567.0 / 20_000.0)).abs() < 1e-9, "{}", run.mean_s());
}

#[test]
fn seeds_repeat_and_every_rule_answers_everything_on_a_small_fleet() {
    let workload = sessions(60, 4, 0.05);
    let engine = Engine { device_tokens: 60_000, ..Engine::default() };
    let host = Some(Host { tokens: 100_000, bytes_per_s: 20e9 });
    let setup = Setup { replicas: 3, engine, host, peer_bytes_per_s: 2.5e9, index_lag_s: 0.05, ..Setup::default() };
    for name in NAMES {
        let (first, again) = (run(name, &setup, &workload), run(name, &setup, &workload));
        assert_eq!(first.ttft_s.len(), workload.requests.len(), "{name}");
        assert_eq!((first.ttft_s, first.tokens), (again.ttft_s, again.tokens), "{name}");
    }
}

#[test]
fn sessions_in_a_closed_loop_wait_for_their_answers() {
    let turn = |after_s, blocks: &[u64]| Turn {
        after_s,
        session: Some(1),
        input_tokens: 512 * blocks.len() as u32,
        output_tokens: 1_000,
        blocks: blocks.to_vec(),
    };
    let workload = Workload::new([turn(0.0, &[1]), turn(3.0, &[1, 2])], 512, u32::MAX);
    let run = run("weft", &Setup { replicas: 1, ..Setup::default() }, &workload);
    let answer_s = 0.005 + 512.0 / 20_000.0 + 1_000.0 * 0.008_06;
    assert!((run.span_s - answer_s - 3.0).abs() < 1e-6, "{} {answer_s}", run.span_s);
}

#[test]
fn peers_and_host_memory_spare_work_that_a_small_device_would_do_again() {
    let workload = sessions(40, 5, 0.2);
    let engine = Engine { device_tokens: 60_000, ..Engine::default() };
    let device = Setup { replicas: 3, engine, ..Setup::default() };
    let host = Setup { host: Some(Host { tokens: 1_000_000, bytes_per_s: 20e9 }), ..device };
    let peers = Setup { peer_bytes_per_s: 10e9, ..host };
    let [device, host, peers] = [device, host, peers].map(|setup| run("round-robin", &setup, &workload));
    assert!(host.hit_rate() > device.hit_rate() + 0.1, "{} {}", host.hit_rate(), device.hit_rate());
    assert!(peers.hit_rate() > host.hit_rate() + 0.1, "{} {}", peers.hit_rate(), host.hit_rate());
    assert!(peers.tokens.peer > 0 && device.tokens.host == 0);
}
