//! The one binary: every process of a deployment is one of its subcommands.
#![expect(clippy::print_stdout, reason = "a command line answers on standard output")]

mod audit;
mod bench;
mod certs;
mod clear;
mod cli;
mod cluster;
mod confirm;
mod doctor;
mod explain;
mod fault;
mod http;
mod lookup;
mod metadata;
mod pin;
mod prepare;
mod prompt;
mod status;
mod table;
mod tenant;
mod up;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use weft_metadata_client::MetadataError;
use weft_service::exit::Stopped;
use weft_service::run::run;
use weft_service::{exit, shutdown};

use crate::cli::{Cli, Command};
use crate::fault::Fault;
use crate::metadata::MetadataArgs;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Metadata(MetadataArgs { command: Some(command), .. }) => exit_code(metadata::run(&command).await),
        Command::Metadata(MetadataArgs { role, command: None }) => {
            run("metadata", &role, async |config, telemetry| {
                let metadata = weft_metadata::Metadata::bind(config, &telemetry).await?;
                tokio::select! {
                    signal = shutdown::signal() => signal.map_err(Stopped::unavailable)?,
                    failure = metadata.failed() => return Err(Stopped::unavailable(failure)),
                }
                metadata.drain(role.drain).await;
                Ok::<_, Stopped>(())
            })
            .await
        }
        Command::Node(args) => {
            run("node", &args, async |config, telemetry| {
                let node = weft_node::Node::bind(config, &telemetry).await?;
                shutdown::signal().await.map_err(Stopped::unavailable)?;
                node.drain(args.drain).await;
                Ok::<_, Stopped>(())
            })
            .await
        }
        Command::Router(args) => {
            run("router", &args, async |config, telemetry| {
                let router = weft_router::Router::bind(config, &telemetry).await?;
                shutdown::signal().await.map_err(Stopped::unavailable)?;
                router.drain(args.drain).await;
                Ok::<_, Stopped>(())
            })
            .await
        }
        Command::EngineSim(args) => {
            run("engine-sim", &args, async |config, telemetry| {
                let engine = weft_engine_sim::EngineSim::bind(config, &telemetry).await?;
                shutdown::signal().await.map_err(Stopped::unavailable)?;
                engine.drain(args.drain).await;
                Ok::<_, Stopped>(())
            })
            .await
        }
        Command::Audit { command } => exit_code(audit::run(&command).await),
        Command::Bench(args) => exit_code(bench::run(args).await),
        Command::Up(args) => exit_code(up::run(args).await),
        Command::Doctor(args) => exit_code(doctor::run(&args).await),
        Command::Status(args) => exit_code(status::run(&args).await),
        Command::Tenant { command } => exit_code(tenant::run(&command).await),
        Command::Lookup(args) => exit_code(lookup::run(&args).await),
        Command::Explain(args) => exit_code(explain::run(&args).await),
        Command::Pin(args) => exit_code(pin::pin(&args).await),
        Command::Pins(args) => exit_code(pin::list(&args).await),
        Command::Repin(args) => exit_code(pin::repin(&args).await),
        Command::Unpin(args) => exit_code(pin::unpin(&args).await),
        Command::Clear(args) => exit_code(clear::run(&args).await),
        Command::Prepare(args) => exit_code(prepare::run(&args)),
        Command::Certs { command } => exit_code(certs::run(&command).await),
    }
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::from(exit_number(&error))
        }
    }
}

/// What a script can tell failures apart by.
fn exit_number(error: &anyhow::Error) -> u8 {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.exit_code();
    }
    match error.downcast_ref::<MetadataError>() {
        Some(MetadataError::Refused(_) | MetadataError::Conflict(_)) => exit::REFUSED,
        _ => exit::UNAVAILABLE,
    }
}
