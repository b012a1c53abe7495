//! Runs one backend, and prints what it measured as a line of JSON.

use clap::Parser;
use weft_bench_index::backend::Kind;
use weft_bench_index::workload::Shape;

#[derive(clap::Parser)]
struct Args {
    #[arg(long)]
    backend: Kind,
    #[command(flatten)]
    shape: Shape,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let measured = weft_bench_index::run::run(args.backend, args.shape);
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
