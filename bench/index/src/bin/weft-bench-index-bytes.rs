//! The bytes that a backend has allocated once all events are applied. Apart from the runs that measure time, since
//! counting costs whoever allocates.

use std::alloc::System;

use clap::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use weft_bench_index::backend::Kind;
use weft_bench_index::workload::{Shape, Workload};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(clap::Parser)]
struct Args {
    #[arg(long)]
    backend: Kind,
    #[command(flatten)]
    shape: Shape,
}

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    // Reallocations are counted apart, as the bytes by which they grew or shrank.
    (stats.bytes_allocated as isize - stats.bytes_deallocated as isize) as usize
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let nothing = live();
    let workload = Workload::generate(args.shape);
    let mut index = args.backend.backend(&workload, args.shape.holders);
    drop(workload);
    index.apply();
    let bytes = live() - nothing;
    println!("{}", serde_json::json!({ "backend": args.backend, "shape": args.shape, "bytes": bytes }));
    Ok(())
}
