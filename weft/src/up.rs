//! `weft up`: a whole weft on one host, as child processes on loopback, and what it saves on a real workload.
//!
//! ```text
//!   plan ──► start metadata, nodes, engines, router ──► replay without weft ──► replay with weft ──► table, picture
//!                                                                                    └──► serve until Ctrl-C
//! ```
//!
//! Whatever happens, every child is stopped before this returns; and should this process be killed, the kernel tells
//! the children (`--parent`).

pub(crate) mod child;
mod plan;
mod show;
mod supervisor;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use weft_service::shutdown;
use weft_types::ByteSize;

pub(crate) use self::plan::write_model;
use self::plan::{Plan, Sizing};
use self::supervisor::{Restart, Supervisor};

/// Arguments of `weft up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Folder for configuration, logs and data.
    #[arg(long, default_value = "run")]
    pub(crate) state: PathBuf,
    /// First three octets of the loopback subnet that the processes take their addresses from.
    #[arg(long, default_value = "127.0.0", value_parser = subnet)]
    pub(crate) subnet: [u8; 3],
    /// Replay this trace (Mooncake-format JSONL, plain or zstd) instead of the built-in workload.
    #[arg(long)]
    pub(crate) trace: Option<PathBuf>,
    /// Requests to replay; the trace is cut there.
    #[arg(long, default_value_t = 400, value_parser = at_least_one::<usize>)]
    pub(crate) requests: usize,
    /// How much faster than recorded requests arrive.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,
    /// Only start the cluster.
    #[arg(long)]
    pub(crate) no_replay: bool,
    /// Stop after the replay instead of serving until Ctrl-C.
    #[arg(long, conflicts_with = "no_replay")]
    pub(crate) once: bool,
    /// What to do when a process ends by itself.
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    pub(crate) restart: Restart,
    /// Prefill speed of a simulated engine, tokens a second.
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one::<u32>)]
    pub(crate) prefill: u32,
    /// Device tier of a simulated engine, tokens.
    #[arg(long, default_value_t = 40_000)]
    pub(crate) device_tokens: u64,
    /// KV bytes of a token; every one of them is stored, moved and compared.
    #[arg(long, default_value_t = 256, value_parser = at_least_one::<u32>)]
    pub(crate) kv_bytes: u32,
    /// Host memory of a node.
    #[arg(long, default_value = "1GiB")]
    pub(crate) host_memory: ByteSize,
    /// Host memory of one contract of a node; default: all of it for the simulated engines'.
    #[arg(long)]
    pub(crate) contract_memory: Option<ByteSize>,
}

fn subnet(text: &str) -> Result<[u8; 3], String> {
    let wrong = || format!("'{text}' is not a loopback subnet: expected 127.x.y, such as 127.0.0");
    let address: Ipv4Addr = format!("{text}.1").parse().map_err(|_| wrong())?;
    let [a, b, c, _] = address.octets();
    if a == 127 { Ok([a, b, c]) } else { Err(wrong()) }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err(format!("'{text}' is not a speed: expected a number over 0, such as 2.5")),
    }
}

fn at_least_one<T: std::str::FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number != T::default() => Ok(number),
        _ => Err(format!("'{text}' is not a number of at least 1 that fits")),
    }
}

/// Runs it until Ctrl-C, or until the replay is over with `--once`.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    // Children get absolute paths: they must not depend on where they are started.
    std::fs::create_dir_all(&args.state)
        .with_context(|| format!("cannot make {}: choose another folder with --state", args.state.display()))?;
    let state = args.state.canonicalize().with_context(|| format!("cannot find {}", args.state.display()))?;
    let _lock = lock(&state)?;
    let sizing = Sizing {
        prefill_tokens_per_s: args.prefill,
        device_tokens: args.device_tokens,
        kv_bytes_per_token: args.kv_bytes,
        host_memory: args.host_memory,
        contract_memory: args.contract_memory,
    };
    let plan = Plan::new(state.clone(), args.subnet, sizing);
    let mut fleet = Supervisor::new(Plan::registry(&state), args.restart);
    // The handlers are in place before the first child is, so that there is no moment in which Ctrl-C leaves one behind.
    let signal = shutdown::signal();
    let outcome = tokio::select! {
        biased;
        signal = signal => signal.context("cannot wait for signals"),
        driven = drive(&args, &plan, &mut fleet) => driven,
    };
    eprintln!("Stopping ...");
    fleet.stop_all().await;
    let emptied = std::fs::remove_dir_all(plan.data());
    if let Err(error) = emptied
        && plan.data().exists()
    {
        eprintln!("cannot empty {}: {error}", plan.data().display());
    }
    outcome
}

async fn drive(args: &UpArgs, plan: &Plan, fleet: &mut Supervisor) -> anyhow::Result<()> {
    plan.prepare()?;
    // First, because it may be refused: a trace that cannot be read should not cost the start of a cluster.
    let workload = if args.no_replay { None } else { Some(show::prepare(args, plan).await?) };
    show::step("starting 3 metadata members, 2 nodes, 4 simulated engines and a router");
    fleet.start(&plan.metadata()?).await?;
    fleet.start(&plan.nodes()?).await?;
    fleet.start(&plan.engines(true)?).await?;
    fleet.start(&[plan.router(true)?]).await?;
    if let Some(workload) = workload {
        show::replay(args, plan, fleet, &workload).await?;
    }
    if args.once {
        return Ok(());
    }
    show::urls(plan, &args.state);
    std::future::pending().await
}

/// Two runs in one folder would empty each other's data.
fn lock(state: &std::path::Path) -> anyhow::Result<std::fs::File> {
    let path = state.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => {
            bail!("another `weft up` runs in {}: stop it, or choose another folder with --state", state.display())
        }
    }
}

/// What runs in `state`, by name.
fn running(state: &std::path::Path) -> anyhow::Result<std::collections::BTreeMap<String, supervisor::Entry>> {
    let registry = Plan::registry(state);
    let text = std::fs::read(&registry).with_context(|| format!("cannot read {}", registry.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Admin addresses of the routers of the `weft up` that runs in `state`.
pub(crate) fn routers(state: &std::path::Path) -> anyhow::Result<Vec<std::net::SocketAddr>> {
    let admin = |entry: &supervisor::Entry| {
        let config: toml::Table = std::fs::read_to_string(&entry.config)?.parse()?;
        Ok(config.get("admin").and_then(toml::Value::as_str).context("it has no admin port")?.parse()?)
    };
    running(state)?.values().filter(|entry| entry.role == "router").map(admin).collect()
}

/// Where clients reach the router of the `weft up` that runs in `state`.
pub(crate) fn router_url(state: &std::path::Path) -> anyhow::Result<String> {
    let running = running(state)?;
    let router = running.values().find(|entry| entry.role == "router").context("it has no router")?;
    let config: toml::Table = std::fs::read_to_string(&router.config)?.parse()?;
    Ok(format!("http://{}", config.get("http").and_then(toml::Value::as_str).context("it has no clients' address")?))
}

/// Folder of its CA.
pub(crate) fn ca(state: &std::path::Path) -> PathBuf {
    Plan::certs_of(state)
}

/// Fabric addresses of the metadata members of the `weft up` that runs in `state`.
pub(crate) fn members(state: &std::path::Path) -> anyhow::Result<Vec<std::net::SocketAddr>> {
    let registry = running(state)?;
    let member = registry.values().find(|entry| entry.role == "metadata").context("it has no metadata member")?;
    let config: toml::Table = std::fs::read_to_string(&member.config)?.parse()?;
    let members = config.get("members").and_then(toml::Value::as_table).context("its members are not listed")?;
    members.values().map(|addr| Ok(addr.as_str().context("an address is text")?.parse()?)).collect()
}

/// The model that its engines serve: tokenizer and chat template.
pub(crate) fn model_folder(state: &std::path::Path) -> PathBuf {
    Plan::model_of(state)
}

/// Identity files of its operator.
pub(crate) fn operator(state: &std::path::Path) -> weft_service::config::IdentityFiles {
    Plan::operator(state)
}
