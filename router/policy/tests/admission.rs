//! Who is let through, in virtual time.

#![expect(clippy::disallowed_methods, reason = "a queue needs some instant to begin at; the clock is never read again")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_policy::{Arrival, Bounds, Entered, Next, Place, Priority, Queue, Refused, Share, Why};

const SHARE: Share = Share { weight: 1.0, tokens_per_second: 0.0, burst_tokens: 0.0 };

fn arrival(tenant: &str, tokens: u32) -> Arrival<String> {
    let tenant = tenant.to_owned();
    Arrival { tenant, share: SHARE, priority: Priority::Normal, tokens, deadline: None }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A queue whose only place is taken.
fn full(waiting: usize, start: Instant) -> Queue<String> {
    let mut queue = Queue::new(Bounds { passing: 1, waiting });
    assert!(matches!(queue.enter(start, arrival("first", 100)), Ok(Entered::Passes(_))));
    queue
}

fn waits(queue: &mut Queue<String>, now: Instant, arrival: Arrival<String>) -> Place {
    match queue.enter(now, arrival) {
        Ok(Entered::Waits(place)) => place,
        other => panic!("{other:?}"),
    }
}

/// Lets one go, and says who is let through for it.
fn turn(queue: &mut Queue<String>, now: Instant) -> Place {
    queue.left();
    let Some(Next::Passes(place)) = queue.next(now) else { panic!("somebody waits") };
    assert_eq!(queue.next(now), None, "one place, one request");
    place
}

#[test]
fn without_a_bound_nobody_waits() {
    let (mut queue, now) = (Queue::new(Bounds { passing: 0, waiting: 0 }), Instant::now());
    for _ in 0..1000 {
        assert!(matches!(queue.enter(now, arrival("a", 1)), Ok(Entered::Passes(_))));
    }
    assert_eq!((queue.passing(), queue.waiting()), (1000, 0));
}

#[test]
fn no_more_pass_and_no_more_wait_than_may() {
    let (mut queue, now) = (Queue::new(Bounds { passing: 3, waiting: 2 }), Instant::now());
    for _ in 0..3 {
        assert!(matches!(queue.enter(now, arrival("a", 1)), Ok(Entered::Passes(_))));
    }
    let first = waits(&mut queue, now, arrival("a", 1));
    waits(&mut queue, now, arrival("b", 1));
    assert_eq!(queue.enter(now, arrival("c", 1)).unwrap_err().why, Why::Full);
    assert_eq!(queue.next(now), None, "nobody has left");
    assert!(queue.gave_up(first) && !queue.gave_up(first), "it leaves once");
    waits(&mut queue, now, arrival("c", 1));
    queue.left();
    assert!(matches!(queue.next(now), Some(Next::Passes(_))));
    assert_eq!((queue.passing(), queue.waiting()), (3, 1));
    queue.left();
    waits(&mut queue, now, arrival("d", 1));
    assert_eq!(queue.passing(), 2, "who comes does not overtake who waits");
}

#[test]
fn tenants_get_tokens_by_weight_however_many_requests_they_send() {
    let start = Instant::now();
    let mut queue = full(10_000, start);
    let mut of: BTreeMap<Place, (&str, u32)> = BTreeMap::new();
    // One sends ten times the requests, the other longer ones, the third weighs twice as much.
    for (tenant, weight, tokens, requests) in
        [("many", 1.0, 100, 2000), ("long", 1.0, 1000, 200), ("heavy", 2.0, 200, 1000)]
    {
        for _ in 0..requests {
            let share = Share { weight, ..SHARE };
            of.insert(waits(&mut queue, start, Arrival { share, ..arrival(tenant, tokens) }), (tenant, tokens));
        }
    }
    let mut had: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..1000 {
        let (tenant, tokens) = of[&turn(&mut queue, start)];
        *had.entry(tenant).or_default() += tokens;
    }
    let (many, long, heavy) = (f64::from(had["many"]), f64::from(had["long"]), f64::from(had["heavy"]));
    assert!((many / long - 1.0).abs() < 0.1, "{had:?}");
    assert!((heavy / (many + long) - 1.0).abs() < 0.1, "{had:?}");
}

#[test]
fn who_comes_after_a_pause_is_not_owed_it() {
    let start = Instant::now();
    let mut queue = full(1000, start);
    let mut names = BTreeMap::new();
    for _ in 0..100 {
        names.insert(waits(&mut queue, start, arrival("steady", 100)), "steady");
    }
    for _ in 0..50 {
        turn(&mut queue, start);
    }
    for _ in 0..50 {
        names.insert(waits(&mut queue, start, arrival("late", 100)), "late");
    }
    let next: Vec<_> = (0..20).map(|_| names[&turn(&mut queue, start)]).collect();
    let late = next.iter().filter(|name| **name == "late").count();
    assert!((8..=12).contains(&late), "{next:?}");
}

#[test]
fn a_higher_priority_goes_first_and_nobody_starves() {
    let start = Instant::now();
    let mut queue = full(10_000, start);
    let low = waits(&mut queue, start, Arrival { priority: Priority::Low, ..arrival("batch", 1) });
    let normal = waits(&mut queue, start, arrival("a", 1));
    let high = waits(&mut queue, start, Arrival { priority: Priority::High, ..arrival("a", 1) });
    assert_eq!(turn(&mut queue, start), high);
    assert_eq!(turn(&mut queue, start), normal);
    // Others who matter more come as fast as they are served, for ever.
    let mut turns = 0;
    loop {
        waits(&mut queue, start, Arrival { priority: Priority::High, ..arrival("a", 1) });
        turns += 1;
        if turn(&mut queue, start) == low {
            break;
        }
        assert!(turns <= Queue::<String>::LONGEST_WAIT_EVERY, "it starves");
    }
    assert!(turns > 4, "it was overtaken");
}

#[test]
fn a_rate_is_kept_and_a_request_over_it_is_told_when() {
    let start = Instant::now();
    let mut queue = Queue::new(Bounds { passing: 0, waiting: 0 });
    let share = Share { tokens_per_second: 100.0, burst_tokens: 1000.0, ..SHARE };
    let ask = |tokens| Arrival { share, ..arrival("a", tokens) };
    assert!(queue.enter(start, ask(900)).is_ok());
    assert!(queue.enter(start, ask(5000)).is_ok(), "what is larger than a burst passes too, once");
    let refused = queue.enter(start, ask(1)).unwrap_err();
    assert_eq!(refused.why, Why::Rate);
    assert_eq!(refused.retry_after.as_secs_f64().round(), 49.0, "4900 tokens too many, at 100 a second");
    assert!(queue.enter(start, Arrival { share, ..arrival("b", 1) }).is_ok(), "nobody else's");
    assert!(queue.enter(start + refused.retry_after, ask(1)).is_ok(), "as it was told");
    let (mut passed, mut now) = (0_u32, start + seconds(100.0));
    for _ in 0..10_000 {
        now += seconds(0.01);
        passed += u32::from(queue.enter(now, ask(50)).is_ok()) * 50;
    }
    assert!((f64::from(passed) - (100.0 * 100.0 + 1000.0)).abs() < 100.0, "{passed} tokens in 100 s");
}

#[test]
fn what_would_come_too_late_is_refused_at_once_and_what_is_too_late_later() {
    let start = Instant::now();
    let mut queue = full(1000, start);
    for _ in 0..21 {
        waits(&mut queue, start, arrival("a", 1));
    }
    // A turn a second.
    for second in 0..11 {
        turn(&mut queue, start + seconds(f64::from(second)));
    }
    let now = start + seconds(10.0);
    let within = |span| Arrival { deadline: Some(now + seconds(span)), ..arrival("b", 1) };
    let Refused { why, retry_after } = queue.enter(now, within(5.0)).unwrap_err();
    assert_eq!((why, retry_after.as_secs()), (Why::Deadline, 11), "ten are ahead of it");
    let place = waits(&mut queue, now, Arrival { priority: Priority::High, ..within(5.0) });
    queue.left();
    let Some(Next::Refused(refused, Refused { why, .. })) = queue.next(now + seconds(6.0)) else {
        panic!("its time is over")
    };
    assert_eq!((refused, why), (place, Why::Deadline));
    assert!(matches!(queue.next(now + seconds(6.0)), Some(Next::Passes(_))), "and the place is another's");
}

#[test]
fn what_is_remembered_of_tenants_is_bounded() {
    let (mut queue, start) = (Queue::new(Bounds { passing: 1, waiting: 10 }), Instant::now());
    for number in 0..100_000_u32 {
        let share = Share { tokens_per_second: 1e6, burst_tokens: 1000.0, ..SHARE };
        let now = start + seconds(f64::from(number));
        queue.enter(now, Arrival { share, ..arrival(&number.to_string(), 10) }).unwrap();
        queue.left();
    }
    let size = format!("{queue:?}").len();
    assert!(size < 4096 * 400, "{size} characters of state");
}
