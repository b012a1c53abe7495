//! A reader of a slot beside a writer that gives it to another key, switched between any two loads and stores.

use std::sync::Arc;

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};

use super::*;

/// Enough to meet each order of so few steps many times.
const RUNS: usize = 2_000;

const FORMER: SetId = SetId::from_bits(1);
const LATER: SetId = SetId::from_bits(2);

const fn print(number: u64) -> Print {
    Print::from_bits(number)
}

/// `read` beside a slot that goes from one key to another, and back again.
fn beside(read: impl Fn(&Segment) + Send + Sync + 'static) {
    let mut config = Config::new();
    // A segment is made on the stack.
    config.stack_size = 1 << 20;
    let read = Arc::new(read);
    Runner::new(RandomScheduler::new(RUNS), config).run(move || {
        let segment = Arc::new(Segment::new());
        segment.fill(0, 0, print(1), FORMER);
        let reader = {
            let (segment, read) = (segment.clone(), read.clone());
            thread::spawn(move || read(&segment))
        };
        for (number, set) in [(2, LATER), (1, FORMER)] {
            segment.set_to(0, SetId::FREE);
            segment.fill(0, 0, print(number), set);
        }
        reader.join().expect("it was not misled");
    });
}

#[test]
fn an_interleaved_reader_of_a_slot_gets_the_set_of_its_key_or_none() {
    beside(|segment| {
        let set = segment.read(0, print(2));
        assert!([SetId::FREE, LATER].contains(&set), "the set of another key");
        let set = segment.read(0, print(1));
        assert!([SetId::FREE, FORMER].contains(&set), "the set of another key");
    });
}

#[test]
fn an_interleaved_reader_of_a_run_counts_its_own_keys_only() {
    beside(|segment| {
        assert_eq!(segment.read_run(0, &[2], print, FORMER), 0, "the set of another key");
        assert_eq!(segment.read_run(0, &[1], print, LATER), 0, "the set of another key");
    });
}
