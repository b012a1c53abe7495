//! One run of one backend, and what it measured.

use std::hint::black_box;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::backend::{Answer, Kind};
use crate::workload::{Shape, Workload};

/// What a run gives, as JSON to whoever started it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    pub backend: Kind,
    pub shape: Shape,
    /// Blocks stored and removed.
    pub changes: usize,
    /// CPU time of the applying thread for each of them.
    pub apply_ns: f64,
    /// Blocks of a request, on average.
    pub request_blocks: f64,
    pub lookup_p50_ns: u64,
    pub lookup_p99_ns: u64,
    /// Equal for all backends that are right.
    pub answers: u64,
    /// Holders over all answers.
    pub holders_found: u64,
    /// Resident bytes that the process gained.
    pub rss_bytes: u64,
}

/// Passes over all requests; the first warms up.
const PASSES: usize = 4;

/// Runs a backend.
#[must_use]
pub fn run(backend: Kind, shape: Shape) -> Measured {
    let workload = Workload::generate(shape);
    let mut index = backend.backend(&workload, shape.holders);
    let changes = workload.changes();
    let Workload { events, requests } = workload;
    drop(events);

    let before_rss = rss_bytes();
    let began = thread_cpu_ns();
    index.apply();
    let apply_ns = (thread_cpu_ns() - began) as f64 / changes as f64;
    let rss = rss_bytes().saturating_sub(before_rss);

    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let (mut answers, mut holders_found) = (0_u64, 0);
    for pass in 0..PASSES {
        let mut took = Vec::with_capacity(requests.len());
        let mut total = 0_u64;
        for (number, request) in (1..).zip(&requests) {
            index.prepare(request);
            let began = Instant::now();
            let answer: Answer = black_box(index.lookup());
            took.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            total = total.wrapping_add(answer.sum.wrapping_mul(number * 2 + 1));
            holders_found += answer.holders;
        }
        assert!(pass == 0 || total == answers, "the same request was answered differently");
        answers = total;
        took.sort_unstable();
        if pass > 0 {
            p50.push(took[took.len() / 2]);
            p99.push(took[took.len() * 99 / 100]);
        }
    }
    p50.sort_unstable();
    p99.sort_unstable();
    let blocks: usize = requests.iter().map(Vec::len).sum();
    Measured {
        backend,
        shape,
        changes,
        apply_ns,
        request_blocks: blocks as f64 / requests.len() as f64,
        lookup_p50_ns: p50[p50.len() / 2],
        lookup_p99_ns: p99[p99.len() / 2],
        answers,
        holders_found: holders_found / PASSES as u64,
        rss_bytes: rss,
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1_000_000_000 + nanos
}

fn rss_bytes() -> u64 {
    const PAGE: u64 = 4_096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}
