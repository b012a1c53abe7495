//! The one binary: every process of a deployment is one of its subcommands.
#![expect(clippy::print_stdout, reason = "a command line answers on standard output")]

mod bench;
mod workload;

use std::process::ExitCode;

use clap::Parser;

/// Placeholder of the command line.
#[derive(Debug, clap::Parser)]
enum Cli {
    /// Run a bench.
    Bench(bench::BenchArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli::Bench(args) = Cli::parse();
    match bench::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}
