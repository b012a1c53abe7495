//! Whole decisions, by value: what is picked, and what is learnt from what happened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::disallowed_methods, reason = "a fleet needs some instant to begin at; the clock is never read again")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_policy::{Candidate, Decision, Fleet, Overlap, Policy, Priors, Source};

const NAMES: [&str; 4] = ["e0", "e1", "e2", "e3"];

/// 1,000 tokens a second, nothing on top: a prompt of 1,000 tokens is a second of prefill.
const PRIORS: Priors = Priors {
    prefill_tokens_per_second: 1_000.0,
    local_tokens_per_second: 50_000.0,
    peer_tokens_per_second: 20_000.0,
    prefill_overhead_ms: 0.0,
    load_start_ms: 0.0,
};

/// Four usable endpoints that hold nothing.
fn cold() -> Vec<Candidate> {
    let candidate =
        |name: &&str| Candidate { endpoint: name.parse().unwrap(), usable: true, overlap: Overlap::default() };
    NAMES.iter().map(candidate).collect()
}

fn held(device_tokens: u32) -> Overlap {
    Overlap { device_tokens, ..Overlap::default() }
}

/// A fleet, a clock that moves when told to, and dice that count.
struct World {
    fleet: Fleet,
    now: Instant,
    dice: u64,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self { fleet: Fleet::new(policy, PRIORS), now: Instant::now(), dice: 0 }
    }

    fn decide(&mut self, tokens: u32, candidates: &[Candidate]) -> Decision {
        self.dice += 7;
        self.fleet.decide(self.now, tokens, true, candidates, self.dice).unwrap()
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn counts(&mut self, requests: usize, tokens: u32, candidates: &[Candidate]) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<_, _> = NAMES.map(|name| (name.to_owned(), 0)).into();
        for _ in 0..requests {
            let decision = self.decide(tokens, candidates);
            *counts.get_mut(&decision.endpoint().to_string()).unwrap() += 1;
        }
        counts
    }
}

#[test]
fn the_longest_prefix_wins_in_an_idle_fleet() {
    let mut world = World::new(Policy::Weft);
    let mut candidates = cold();
    candidates[1].overlap = held(512);
    candidates[2].overlap = held(3_008);
    let decision = world.decide(4_000, &candidates);
    assert_eq!(decision.endpoint().to_string(), "e2");
    assert_eq!(decision.terms().computed_tokens, 992);
    assert_eq!(decision.considered.len(), 4, "the decision says what else it looked at");
}

#[test]
fn the_nodes_own_tier_counts_less_than_the_device_and_more_than_a_peer() {
    let mut world = World::new(Policy::Weft);
    let mut candidates = cold();
    candidates[0].overlap = Overlap { peer_tokens: 3_008, ..Overlap::default() };
    candidates[1].overlap = Overlap { local_tokens: 3_008, ..Overlap::default() };
    candidates[2].overlap = held(3_008);
    for (expected, source) in [("e2", Source::Nothing), ("e1", Source::Local), ("e0", Source::Peer)] {
        let decision = world.decide(4_000, &candidates);
        assert_eq!((decision.endpoint().to_string().as_str(), decision.terms().source), (expected, source));
        world.fleet.ended(world.now, decision.ticket);
        candidates.retain(|candidate| candidate.endpoint != *decision.endpoint());
    }
}

/// Longest-prefix routing would send every one of them to e0.
#[test]
fn load_spreads_though_all_share_a_system_prompt_that_one_holds() {
    let mut candidates = cold();
    candidates[0].overlap = held(512);
    let counts = World::new(Policy::Weft).counts(100, 1_500, &candidates);
    assert!(counts.values().all(|count| (15..=45).contains(count)), "{counts:?}");
}

#[test]
fn overload_spreads_a_hot_prefix_too() {
    let mut candidates = cold();
    candidates[3].overlap = held(3_008);
    let counts = World::new(Policy::Weft).counts(400, 4_000, &candidates);
    assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    assert!(counts["e3"] > 200, "the holder still gets most: {counts:?}");
    assert!(counts["e3"] < 350, "but not so much that others idle: {counts:?}");
}

#[test]
fn what_is_not_usable_is_never_picked_whatever_it_holds() {
    for policy in [Policy::Weft, Policy::RoundRobin, Policy::LeastRequests] {
        let mut world = World::new(policy);
        let mut candidates = cold();
        candidates[2].overlap = held(3_999);
        candidates[2].usable = false;
        assert_eq!(world.counts(200, 4_000, &candidates)["e2"], 0, "{policy:?}");
        for candidate in &mut candidates {
            candidate.usable = false;
        }
        assert_eq!(world.fleet.decide(world.now, 4_000, true, &candidates, 0), None);
    }
}

#[test]
fn ties_are_broken_by_the_dice() {
    let picks = [0, 1, 2, 3].map(|dice| {
        let mut fleet = Fleet::new(Policy::Weft, PRIORS);
        fleet.decide(Instant::now(), 100, true, &cold(), dice).unwrap().endpoint().to_string()
    });
    assert_eq!(picks, NAMES);
}

#[test]
fn round_robin_goes_round_and_skips_what_is_down() {
    let mut world = World::new(Policy::RoundRobin);
    let mut candidates = cold();
    let mut picks = |candidates: &[Candidate]| [0; 5].map(|_| world.decide(10, candidates).endpoint().to_string());
    assert_eq!(picks(&candidates), ["e0", "e1", "e2", "e3", "e0"]);
    candidates[2].usable = false;
    assert_eq!(picks(&candidates), ["e1", "e3", "e0", "e1", "e3"]);
}

#[test]
fn least_requests_counts_what_has_not_ended() {
    let mut world = World::new(Policy::LeastRequests);
    let decisions: Vec<_> = (0..4).map(|_| world.decide(10, &cold())).collect();
    world.fleet.first_token(world.now, decisions[1].ticket);
    world.fleet.ended(world.now, decisions[2].ticket);
    assert_eq!(world.decide(10, &cold()).endpoint(), decisions[2].endpoint());
}

#[test]
fn a_queue_is_waited_for_until_its_first_tokens_come() {
    let mut world = World::new(Policy::Weft);
    let only = &cold()[..1];
    let first = world.decide(1_000, only);
    assert_eq!(world.decide(1_000, only).terms().wait_seconds, 1.0);
    world.pass(0.5);
    assert_eq!(world.decide(1_000, only).terms().wait_seconds, 1.5, "half a second of the first was done");
    world.pass(10.0);
    assert_eq!(world.decide(1_000, only).terms().wait_seconds, 2.0, "a late endpoint does not look idle");
    world.fleet.first_token(world.now, first.ticket);
    let slow = world.decide(1_000, only);
    assert_eq!(slow.terms().wait_seconds, 3.0, "the first one is done, three others are not");
    assert!(slow.terms().prefill_seconds > 2.0, "and it was learnt that this endpoint is slow: {slow:?}");
}

#[test]
fn an_answer_in_one_piece_waits_as_long_as_predicted() {
    let mut world = World::new(Policy::Weft);
    let only = &cold()[..1];
    let whole = world.fleet.decide(world.now, 1_000, false, only, 0).unwrap();
    world.pass(1.001);
    let next = world.decide(1_000, only);
    assert_eq!((next.terms().wait_seconds, next.considered[0].in_flight), (0.0, 1));
    world.fleet.ended(world.now, whole.ticket);
    assert_eq!(world.fleet.view()[0].in_flight, 1);
}

#[test]
fn the_harm_to_others_grows_with_those_who_wait_and_is_forgotten_slowly() {
    let mut world = World::new(Policy::Weft);
    let only = &cold()[..1];
    let decisions: Vec<_> = (0..11).map(|_| world.decide(1_000, only)).collect();
    assert_eq!((decisions[0].beta, decisions[1].beta, decisions[10].beta), (0.0, 0.0, 9.0));
    world.pass(60.0);
    let last = world.decide(1_000, only);
    assert_eq!(last.beta, 10.0);
    for decision in decisions.iter().chain([&last]) {
        world.fleet.ended(world.now, decision.ticket);
    }
    world.pass(1.0);
    let soon = world.decide(1_000, only).beta;
    assert!((5.0..10.0).contains(&soon), "{soon}");
    world.pass(300.0);
    assert!(world.decide(1_000, only).beta < 1.0);
}

#[test]
fn rates_are_learnt_from_first_tokens() {
    let mut world = World::new(Policy::Weft);
    let mut only = cold();
    only.truncate(1);
    for _ in 0..60 {
        only[0].overlap = Overlap::default();
        let computed = world.decide(4_000, &only);
        world.pass(4_000.0 / 5_000.0);
        world.fleet.first_token(world.now, computed.ticket);
        world.fleet.ended(world.now, computed.ticket);

        only[0].overlap = Overlap { local_tokens: 3_900, ..Overlap::default() };
        let loaded = world.decide(4_000, &only);
        world.pass(100.0 / 5_000.0 + 3_900.0 / 20_000.0);
        world.fleet.first_token(world.now, loaded.ticket);
        world.fleet.ended(world.now, loaded.ticket);
    }
    let view = &world.fleet.view()[0];
    assert!((4_800.0..5_100.0).contains(&view.prefill_tokens_per_second), "{view:?}");
    assert!((19_000.0..21_000.0).contains(&view.local_tokens_per_second), "{view:?}");
    assert_eq!((view.in_flight, view.waiting), (0, 0));
}

#[test]
fn an_endpoint_that_left_is_forgotten() {
    let mut world = World::new(Policy::Weft);
    let decision = world.decide(10, &cold());
    world.fleet.retain(|_| false);
    world.fleet.first_token(world.now, decision.ticket);
    world.fleet.ended(world.now, decision.ticket);
    assert_eq!(world.fleet.view(), []);
}
