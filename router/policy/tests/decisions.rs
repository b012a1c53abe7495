//! Whole decisions, by value: what is picked, and what is learnt from what happened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::disallowed_methods, reason = "a fleet needs some instant to begin at; the clock is never read again")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_policy::{Ask, Candidate, Decision, Fleet, Policy, Priors, Source};
use weft_types::NodeId;

const NAMES: [&str; 4] = ["e0", "e1", "e2", "e3"];

/// 1,000 tokens a second, nothing on top: a prompt of 1,000 tokens is a second of prefill.
const PRIORS: Priors = Priors {
    prefill_tokens_per_second: 1_000.0,
    local_tokens_per_second: 50_000.0,
    peer_tokens_per_second: 20_000.0,
    prefill_overhead_ms: 0.0,
    load_start_ms: 0.0,
    device_tokens: 0,
    learn: true,
};

/// Four usable endpoints that hold nothing, each on a node of its own: `n0` of `e0`.
fn cold() -> Vec<Candidate<'static>> {
    let candidate = |name: &&str| Candidate {
        endpoint: name.parse().unwrap(),
        node: Some(name.replace('e', "n").parse().unwrap()),
        usable: true,
        device_tokens: 0,
        nodes: &[],
    };
    NAMES.iter().map(candidate).collect()
}

/// What each node holds.
fn nodes<const N: usize>(held: [(&str, u32); N]) -> [(NodeId, u32); N] {
    held.map(|(node, tokens)| (node.parse().unwrap(), tokens))
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

    fn decide(&mut self, tokens: u32, candidates: &[Candidate<'_>]) -> Decision {
        self.dice += 7;
        self.fleet.decide(self.now, &Ask { tokens, streamed: true }, candidates, self.dice).unwrap()
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn counts(&mut self, requests: usize, tokens: u32, candidates: &[Candidate<'_>]) -> BTreeMap<String, usize> {
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
    candidates[1].device_tokens = 512;
    candidates[2].device_tokens = 3_008;
    let decision = world.decide(4_000, &candidates);
    assert_eq!(decision.endpoint().to_string(), "e2");
    assert_eq!(decision.terms().computed_tokens, 992);
    assert_eq!(decision.considered.len(), 4, "the decision says what else it looked at");
}

#[test]
fn the_nodes_own_tier_counts_less_than_the_device_and_more_than_a_peer() {
    let mut world = World::new(Policy::Weft);
    let mut candidates = cold();
    let held = nodes([("n1", 3_008)]);
    candidates.iter_mut().for_each(|candidate| candidate.nodes = &held);
    candidates[2].device_tokens = 3_008;
    candidates.truncate(3);
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
    candidates[0].device_tokens = 512;
    let counts = World::new(Policy::Weft).counts(100, 1_500, &candidates);
    assert!(counts.values().all(|count| (15..=45).contains(count)), "{counts:?}");
}

#[test]
fn overload_spreads_a_hot_prefix_too() {
    let mut candidates = cold();
    candidates[3].device_tokens = 3_008;
    let counts = World::new(Policy::Weft).counts(400, 4_000, &candidates);
    assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    assert!(counts["e3"] > 200, "the holder still gets most: {counts:?}");
    assert!(counts["e3"] < 350, "but not so much that others idle: {counts:?}");
}

#[test]
fn what_is_not_usable_is_never_picked_whatever_it_holds() {
    for policy in [
        Policy::Weft,
        Policy::Approximate,
        Policy::RoundRobin,
        Policy::LeastRequests,
        Policy::LeastTokens,
        Policy::LongestPrefix,
    ] {
        let mut world = World::new(policy);
        let mut candidates = cold();
        candidates[2].device_tokens = 3_999;
        candidates[2].usable = false;
        assert_eq!(world.counts(200, 4_000, &candidates)["e2"], 0, "{policy:?}");
        for candidate in &mut candidates {
            candidate.usable = false;
        }
        assert_eq!(world.fleet.decide(world.now, &Ask { tokens: 4_000, streamed: true }, &candidates, 0), None);
    }
}

#[test]
fn ties_are_broken_by_the_dice() {
    let picks = [0, 1, 2, 3].map(|dice| {
        let mut fleet = Fleet::new(Policy::Weft, PRIORS);
        fleet
            .decide(Instant::now(), &Ask { tokens: 100, streamed: true }, &cold(), dice)
            .unwrap()
            .endpoint()
            .to_string()
    });
    assert_eq!(picks, NAMES);
}

#[test]
fn a_session_stays_where_it_was_among_equals_and_only_there() {
    for policy in [Policy::Weft, Policy::Approximate, Policy::LeastRequests, Policy::LeastTokens, Policy::LongestPrefix]
    {
        let (mut candidates, near) = (cold(), "e2".parse().unwrap());
        let near_picked = |candidates: &[Candidate<'_>], dice| {
            let (mut fleet, ask) = (Fleet::new(policy, PRIORS), Ask { tokens: 100, streamed: true });
            fleet.decide_near(Instant::now(), &ask, candidates, Some(&near), dice).unwrap().endpoint() == &near
        };
        assert!((0..8).all(|dice| near_picked(&candidates, dice)), "{policy:?}");
        candidates[2].usable = false;
        assert!(!near_picked(&candidates, 2), "{policy:?}");
        candidates[2].usable = true;
        candidates[1].device_tokens = 99;
        let holds = !matches!(policy, Policy::LeastRequests | Policy::LeastTokens);
        assert_eq!(near_picked(&candidates, 2), !holds, "{policy:?}: a prefix is worth more than a session's name");
    }
}

#[test]
fn round_robin_goes_round_and_skips_what_is_down() {
    let mut world = World::new(Policy::RoundRobin);
    let mut candidates = cold();
    let mut picks = |candidates: &[Candidate<'_>]| [0; 5].map(|_| world.decide(10, candidates).endpoint().to_string());
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
fn least_tokens_counts_work_and_not_requests() {
    let mut world = World::new(Policy::LeastTokens);
    let two = &cold()[..2];
    let long = world.decide(8_000, two);
    for _ in 0..3 {
        assert_ne!(world.decide(1_000, two).endpoint(), long.endpoint());
    }
    world.fleet.first_token(world.now, long.ticket);
    assert_eq!(world.decide(1_000, two).endpoint(), long.endpoint(), "it decodes, and computes nothing");
}

#[test]
fn longest_prefix_goes_where_most_is_whatever_waits_there() {
    let mut world = World::new(Policy::LongestPrefix);
    let (held, mut candidates) = (nodes([("n1", 2_048)]), cold());
    candidates.iter_mut().for_each(|candidate| candidate.nodes = &held);
    candidates[3].device_tokens = 1_024;
    assert_eq!(world.counts(20, 4_000, &candidates)["e1"], 20);
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
    let whole = world.fleet.decide(world.now, &Ask { tokens: 1_000, streamed: false }, only, 0).unwrap();
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
    let held = nodes([("n0", 3_900)]);
    for _ in 0..60 {
        only[0].nodes = &[];
        let computed = world.decide(4_000, &only);
        world.pass(4_000.0 / 5_000.0);
        world.fleet.first_token(world.now, computed.ticket);
        world.fleet.ended(world.now, computed.ticket);

        only[0].nodes = &held;
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

#[test]
fn a_busy_link_is_waited_for_or_gone_round() {
    let mut world = World::new(Policy::Weft);
    let mut candidates = cold();
    let held = nodes([("n2", 8_000), ("n3", 8_000)]);
    candidates.iter_mut().for_each(|candidate| candidate.nodes = &held);
    let peers: Vec<_> = (0..2)
        .map(|turn| {
            let decision = world.decide(8_100, &candidates[turn..=turn]);
            assert_eq!(decision.terms().fetch_seconds, 0.4, "the link from its peer is idle");
            decision.considered[0].peer.clone().unwrap()
        })
        .collect();
    assert_ne!(peers[0], peers[1], "the second fetch takes the other link");
    let third = world.decide(8_100, &candidates[..1]);
    assert_eq!(third.terms().fetch_seconds, 0.8, "into e0's node one fetch is under way");
}

#[test]
fn an_endpoint_whose_memory_is_full_is_waited_for() {
    let mut world = World::new(Policy::Weft);
    world.fleet = Fleet::new(Policy::Weft, Priors { device_tokens: 10_000, ..PRIORS });
    let two = &cold()[..2];
    let long = world.decide(8_000, two);
    world.fleet.first_token(world.now, long.ticket);
    let full = world.decide(2_000, two);
    assert_ne!(full.endpoint(), long.endpoint());
    let terms = |decision: &Decision| {
        decision.considered.iter().find(|one| one.endpoint == *long.endpoint()).map(|one| one.terms.memory_seconds)
    };
    assert!(terms(&full).unwrap() > 1.0, "{full:?}");
    world.fleet.ended(world.now, long.ticket);
    assert_eq!(terms(&world.decide(2_000, two)), Some(0.0), "it is free again");
}

/// Without it, a fetch that others overtook would look as fast as the time since they did.
#[test]
fn a_fetch_that_is_overtaken_is_not_taken_for_a_fast_one() {
    let mut world = World::new(Policy::Weft);
    let (held, mut candidates) = (nodes([("n3", 40_000)]), cold());
    for _ in 0..20 {
        candidates[0].nodes = &held;
        let fetched = world.decide(40_100, &candidates[..1]);
        world.pass(1.9);
        candidates[0].nodes = &[];
        let overtaking = world.decide(10, &candidates[..1]);
        world.pass(0.01);
        world.fleet.first_token(world.now, overtaking.ticket);
        world.pass(0.19);
        world.fleet.first_token(world.now, fetched.ticket);
        world.fleet.ended(world.now, overtaking.ticket);
        world.fleet.ended(world.now, fetched.ticket);
    }
    let view = &world.fleet.view()[0];
    assert!((18_000.0..22_000.0).contains(&view.peer_tokens_per_second), "{view:?}");
}
